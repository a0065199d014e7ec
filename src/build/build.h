// From a source diff to a patch: which units are touched, compile each twice, diff, match, write.
#pragma once

#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/report.h"
#include "format/patch.h"
#include "objdiff/diff.h"

namespace qp::build {

struct Request {
  std::filesystem::path compdb;  // directory or file
  std::vector<std::filesystem::path>
      patches;  // unified diffs, -p1 (or -p0) against the source tree
  std::vector<std::filesystem::path> targets;      // ELF files, at least one
  std::vector<std::filesystem::path> debug_files;  // of targets; may be empty
  std::filesystem::path link_command;  // file; only for -flto, may be empty (build/lto.h)
  std::string description;
  std::vector<std::string> cves;
  std::set<std::string> waivers;
  std::vector<std::string> supersedes;          // ids of patches, recorded
  std::vector<format::PatchFile> predecessors;  // those of them that are at hand
  std::filesystem::path keep;                   // directory for the objects; empty: thrown away
  int jobs = 0;                                 // 0: number of processors
};

struct UnitResult {
  std::string source;  // as recorded
  std::string reason;  // "preprocessed text is equal", "compiled; 2 functions changed", …
  bool compiled = false;
};

struct Result {
  std::optional<format::PatchFile> patch;  // nullopt: no change
  std::vector<UnitResult> units;           // every unit that the diff could touch
  std::vector<objdiff::Diff> diffs;        // of the compiled ones that changed or were refused
  std::vector<std::string> warnings;
};

// Findings go to `report`; the caller checks it (checkpoint()) before it uses the result.
Result build(const Request& request, Report& report);

}  // namespace qp::build
