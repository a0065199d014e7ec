// Several matched units become one patch.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/report.h"
#include "format/patch.h"
#include "match/bind.h"
#include "objdiff/diff.h"

namespace qp::build {

// What match has to find for a diff.
struct Wanted {
  std::vector<size_t> units;               // of diff.units: the changed ones
  std::vector<elf::AtomId> functions;      // their original functions, same order
  std::vector<elf::AtomSymbolId> symbols;  // original symbols that the new code refers to
};
Wanted wanted_of(const objdiff::Diff& diff);

struct MatchedUnit {
  const objdiff::Diff* diff = nullptr;
  Wanted wanted;
  match::Matched matched;
};

// Globals of the target that have no name in its file, and where they were found.
using KnownGlobals = std::map<std::string, elf::Binding>;

// Fills everything of the patch but its meta. Findings: symbol-missing, symbol-ambiguous,
// definition-conflict, import-ifunc; with findings in the report the patch is not to be used.
format::Patch assemble(const std::vector<MatchedUnit>& units, const match::SymbolMap& symbols,
                       std::optional<int64_t> tls_block_end, const KnownGlobals& known,
                       Report& report);

}  // namespace qp::build
