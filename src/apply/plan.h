// The plan: everything that will be written into a process, computed while it runs.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "apply/apply.h"
#include "apply/registry.h"
#include "base/report.h"
#include "format/patch.h"
#include "link/image.h"
#include "proc/process.h"

namespace qp::apply {

struct Write {
  LiveAddr at;
  Bytes bytes;
};

struct Plan {
  std::string patch_id;
  std::vector<proc::Module> modules;
  size_t target = 0;  // index into modules
  link::Image image;
  std::vector<link::Detour> detours;  // LinkAddr of the target
  Registry registry;
  LiveAddr registry_at;
  std::vector<Write> writes;        // into the image's writable memory: fills, registry
  bool reuse = false;               // the image is mapped already (kept by a revert)
  std::vector<LiveRange> old_code;  // where nobody may be; sorted, disjoint
  std::vector<LiveAddr> starts;     // of functions, in it and right behind it
  // What is unsafe to be in after the switch: the bytes that the detours overwrite, and all of a
  // function that jumps back to them. Sorted.
  std::vector<LiveRange> unsafe;
  const proc::Module& module() const { return modules[target]; }
};

// Findings: not-in-process, mapped-twice, other-namespace, interposed, those of rebind() if it runs
// another build, code-differs, binding-conflict, already-replaced, interrupted, text-not-private,
// text-modified, call-at-entry, no-room, import-*, and link's.
// Nullopt if there are findings.
std::optional<Plan> make_plan(const proc::Process& process, const format::Patch& patch,
                              Report& report);

// Sorts and joins ranges.
std::vector<LiveRange> normalise(std::vector<LiveRange> ranges);

}  // namespace qp::apply
