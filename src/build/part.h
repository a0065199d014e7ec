// What one target gets of a fix: a part of the patch.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/report.h"
#include "build/analysis.h"
#include "build/build.h"
#include "build/context.h"
#include "build/target.h"
#include "format/patch.h"

namespace qp::build {

// The same units are analysed for every target; `units` of all parts are parallel.
struct Part {
  TargetFile target;
  std::vector<Analysis> units;
  KnownGlobals known;
  Report report;
};

// Opens the targets of a request, each with its debug file if one was given. Findings of
// open_target(). Throws Error{debug-mismatch} for a debug file that is of none of them.
std::vector<Part> open_parts(const Request& request, Report& report,
                             std::vector<std::string>& warnings);

// Of several targets: a unit with findings in one of them is no part of that one if nothing of it is
// there, and it is proven in another. Says so in `warnings`.
void leave_to_others(std::vector<Part>& parts, std::vector<std::string>& warnings);

// The patch for the target, if units were chosen; nullopt with findings, or if nothing is replaced.
std::optional<format::Patch> make_patch(Part& part, const Request& request);

// Parts agree about what they define anew. Finding: definition-conflict.
void check_new_globals(const format::PatchFile& file, Report& report);

// What the user allowed: of the part, and `whole`, of the build. Into the patch's metadata.
void record_waivers(const Part& part, const Report& whole, format::Patch& patch);

// Findings of all parts: once if all of them have it, else with the target's name.
void join_reports(const std::vector<Part>& parts, Report& report);

// What became of the units that were compiled, by target where that differs.
std::vector<UnitResult> results_of(const std::vector<Part>& parts);

}  // namespace qp::build
