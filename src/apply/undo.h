// Taking detours out again, for revert and recover. A registry lies where the process can write, so
// nothing of it is believed that can't be checked (P5, P9).
#pragma once

#include <string>
#include <vector>

#include "apply/apply.h"
#include "apply/registries.h"
#include "apply/switch.h"
#include "proc/process.h"

namespace qp::apply {

// The module that the registry names, at the place that it names; nullptr if it is not there.
const proc::Module* find_module(const std::vector<proc::Module>& modules, const Registry& registry);

// Of the detours of a patch.
enum class Expected : uint8_t {
  Complete,
  HalfDone,  // some may not be there, or cut: the saved bytes are, or what a patch that is applied wrote
  Anything,  // what is there is looked at elsewhere
};

// What the registry says against what is there: detours must lie in the module's text, the saved
// bytes must be those of the module's file, and the live bytes what is expected. Empty: all as it
// should be.
std::vector<std::string> find_faults(const proc::Process& process, const proc::Module* module,
                                     const Registry& registry,
                                     Expected expected = Expected::Complete);

// Where nobody may be when the detours go: the image, and the islands that lead to it.
void add_new_code_ranges(const Registry& registry, std::vector<LiveRange>& out);

// The writes that bring the old entries back, where the live bytes are the detour, or a part of it.
std::vector<CodeWrite> undo_writes(const proc::Process& process, const Registry& registry);

struct MappedImage {
  LiveRange range;
  bool may_escape = true;  // Registry's
};
std::vector<MappedImage> images_of(const std::vector<FoundRegistry>& registries);

// When nothing leads into these images any more: unmaps them if nothing can reach them and no code that
// stays uses their variables, else says in outcome.notes why they stay. Those that are not kept for their
// variables stay together, since one may refer to the other.
void release_images(const proc::Process& process, std::vector<MappedImage> images,
                    Outcome& outcome);

}  // namespace qp::apply
