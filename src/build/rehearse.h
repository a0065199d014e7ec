// Links a fresh patch once, for an empty process, so that what can't be linked is known at once.
#pragma once

#include "base/report.h"
#include "build/target.h"
#include "format/patch.h"

namespace qp::build {

// Findings: those of link::link_image and link::plan_detour. Nothing is kept.
void rehearse_link(const format::Patch& patch, const TargetFile& target, Report& report);

}  // namespace qp::build
