// Finds the registries in a process.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "apply/registry.h"
#include "proc/process.h"

namespace qp::apply {

struct FoundRegistry {
  LiveAddr at;
  std::string where;                 // the image's name in maps
  std::string named_id;              // the patch id in that name: all that is left of a damaged one
  LiveRange image;                   // by maps, not by the registry
  std::optional<Registry> registry;  // nullopt: damaged
  std::string fault;                 // then: why
};

// One per mapped image, by address. Never throws for what the process wrote.
std::vector<FoundRegistry> find_registries(const proc::Process& process);

// The registries of one transaction: they change together. By the address of the first.
using Group = std::vector<FoundRegistry>;
// Damaged registries are in none.
std::vector<Group> group_registries(const std::vector<FoundRegistry>& all);

const char* state_name(State state);
// One aligned write into the registry at `registry`.
void write_state(const proc::Memory& memory, LiveAddr registry, State state);

// How images are named, in the store and as memfd: "qpatch-ID-HASH.qpi".
std::string image_name(const std::string& patch_id, const std::string& build_id);
// Whether a name in maps or of a descriptor is that of an image.
bool is_image_name(std::string_view name);

}  // namespace qp::apply
