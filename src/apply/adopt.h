// Variables of patches that are superseded keep their values.
#pragma once

#include <vector>

#include "apply/registry.h"
#include "base/report.h"
#include "format/patch.h"
#include "link/image.h"

namespace qp::apply {

struct Adopted {
  // Without those of its variables that are there already: what refers to one is bound to where it is,
  // or, if it is thread-local, by link.
  format::Patch patch;
  link::ThreadLocals thread_locals;
  std::vector<RegistryVariable> variables;  // those that are there
};
// `there`: in the process, `bias` away from the target's addresses. Findings: variable-changed.
Adopted adopt(const format::Patch& patch, const std::vector<RegistryVariable>& there, LoadBias bias,
              Report& report);

// The record of a variable, but for its place.
RegistryVariable describe(const format::Patch& patch, const format::Variable& variable);

}  // namespace qp::apply
