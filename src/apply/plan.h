// The plan: everything that will be written into a process, computed while it runs.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "apply/apply.h"
#include "apply/registry.h"
#include "apply/superseded.h"
#include "base/report.h"
#include "format/patch.h"
#include "link/image.h"
#include "proc/process.h"

namespace qp::apply {

struct Write {
  LiveAddr at;
  Bytes bytes;
};

// What one mapping of a target gets: an image, and detours into it.
struct PartPlan {
  proc::Module module;
  link::Image image;
  std::vector<link::Detour> detours;  // LinkAddr of the target
  std::vector<RegistryDetour> heirs;  // in images of superseded patches
  Registry registry;
  LiveAddr registry_at;
  std::vector<Write> writes;        // into the image's writable memory: fills, registry
  bool reuse = false;               // the image is mapped already (kept by a revert)
  std::vector<LiveRange> old_code;  // where nobody may be
  std::vector<LiveAddr> starts;     // of functions, in it and right behind it
  // What is unsafe to be in after the switch: the bytes that the detours overwrite, and all of a
  // function that jumps back to them.
  std::vector<LiveRange> unsafe;
};

// One transaction: all parts or none.
struct Plan {
  std::string patch_id;
  std::vector<PartPlan> parts;  // empty: the process has all of the patch already
  size_t functions_there = 0;   // replaced by this patch before
  Superseded superseded;
  // Of all parts, and of what the superseded patches have in their place; sorted, disjoint.
  std::vector<LiveRange> old_code, unsafe;
  // Where no thread may be besides: images of superseded patches, and the islands that lead there.
  std::vector<LiveRange> leaving;
  std::vector<LiveAddr> starts;
  size_t functions() const;
};

// `replaces`: Options::replaces. Findings: those of find_sites(), rebind() if the process runs another
// build, and prove_live(); superseded, other-namespace, interposed, already-replaced, call-at-entry,
// no-room, variable-changed, import-*, and link's. Nullopt if there are findings.
std::optional<Plan> make_plan(const proc::Process& process, const format::PatchFile& file,
                              const std::vector<std::string>& replaces, Report& report);

// Sorts and joins ranges.
std::vector<LiveRange> normalise(std::vector<LiveRange> ranges);

}  // namespace qp::apply
