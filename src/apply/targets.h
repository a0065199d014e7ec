// Where in a process a patch goes: which mapping of which target gets which part.
#pragma once

#include <string>
#include <vector>

#include "apply/registries.h"
#include "base/report.h"
#include "format/patch.h"
#include "proc/process.h"

namespace qp::apply {

struct Site {
  const format::Patch* part = nullptr;
  const proc::Module* module = nullptr;
};

struct Sites {
  std::vector<Site> missing;   // have to be patched
  size_t functions_there = 0;  // replaced by this patch already
};

// Every mapping of every target; a part whose target is not mapped is a warning. Findings:
// not-in-process (of no part the target is mapped), not-executed, mapped-twice, text-not-private,
// registry-damaged, interrupted.
Sites find_sites(const proc::Process& process, const std::vector<proc::Module>& modules,
                 const format::PatchFile& file, const std::string& patch_id,
                 const std::vector<FoundRegistry>& registries, Report& report);

}  // namespace qp::apply
