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
  bool blank = false;                // and whether nothing was ever written there
};

// One per mapped image, by address. Never throws for what the process wrote.
std::vector<FoundRegistry> find_registries(const proc::Process& process);

// The registries of one transaction: they change together. By the address of the first.
using Group = std::vector<FoundRegistry>;
// Damaged registries are in none.
std::vector<Group> group_registries(const std::vector<FoundRegistry>& all);

// Their records; damaged ones have none.
std::vector<const Registry*> records_of(const std::vector<FoundRegistry>& registries);
bool is_one_of(const std::vector<FoundRegistry>& registries, const FoundRegistry& found);

// Whose use of a variable counts.
enum class Users : uint8_t {
  Applied,  // patches that are not reverted
  Mapped    // any image that is there: somebody may have been suspended in its code
};
// Of `registries`, those with a variable in their image that code of another one uses, or a function from
// which one that is applied leads on to its own. Images in `going` are no users. A registry that can't be
// read may use any variable, as long as it is mapped.
std::vector<FoundRegistry> in_use(const std::vector<FoundRegistry>& registries, Users users,
                                  const std::vector<LiveRange>& going = {});

const char* state_name(State state);
// One aligned write into the registry at `registry`.
void write_state(const proc::Memory& memory, LiveAddr registry, State state);

// How images are named, in the store and as memfd: "qpatch-ID-HASH.qpi".
std::string image_name(const std::string& patch_id, const std::string& build_id);
// Whether a name in maps or of a descriptor is that of an image.
bool is_image_name(std::string_view name);

}  // namespace qp::apply
