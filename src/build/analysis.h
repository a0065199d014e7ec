// What became of one compiled unit: its diff, and where its original is in the target.
#pragma once

#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/report.h"
#include "build/absence.h"
#include "build/assemble.h"
#include "build/target.h"
#include "build/touched_units.h"
#include "match/bind.h"
#include "objdiff/diff.h"

namespace qp::build {

struct Objects {
  std::filesystem::path original, patched;
};

// Of a unit, or of all units with link-time optimisation together.
struct Analysis {
  const TouchedUnit* unit = nullptr;
  // Code: one object, or what the back end made of the whole link.
  std::vector<std::filesystem::path> original, patched;
  // Types: of the unit, or of each with link-time optimisation.
  std::vector<Objects> types;
  bool whole_program = false;
  std::optional<objdiff::Diff> diff;
  Wanted wanted;
  match::Matched matched;
  Report report;  // of the diff and of the match
  // Of the diff alone; nullopt: there was no match, since the diff had findings or no change.
  std::optional<Report> before_match;
  std::string toolchain;
  std::optional<std::string> compiler_warning;
  bool part_of_target = true;
  std::string reason;   // for the UnitResult
  bool chosen = false;  // goes into the patch
};

// One object as a graph, or several of one link.
elf::AtomGraph split_all(const std::vector<std::filesystem::path>& objects, Report& report);

// Fills all of it but `chosen`, from the objects.
void analyse(Analysis& unit, const TargetFile& target, const std::set<std::string>& waivers);

// The units whose code is proven in the target.
Absence present_units(const std::vector<Analysis>& units, const TargetFile& target);

// Sets `part_of_target` to false for units that the target shows not to hold (absence.h), and says so.
void find_absent(std::vector<Analysis>& units, const TargetFile& target,
                 std::vector<std::string>& warnings);

// Of several objects of one source: chooses those that the target holds, and reports why others
// are none.
void choose(std::vector<Analysis>& units, Report& report, std::vector<std::string>& warnings);

// Units of one program agree about where its globals are. Finding: binding-conflict.
void check_agreement(const std::vector<MatchedUnit>& units, Report& report);

}  // namespace qp::build
