// Compilers can be told to add things that the source does not have, and these differ where the source
// differs by a line or a branch. None of it is state of the program.
//
// -fsanitize=undefined describes each place that it checks, with line and column, in writable data
// without a name: the runtime marks those of which it has told (compiler-rt, ubsan_diag.h,
// SourceLocation::acquire). New code brings its own descriptions; at worst a place is told twice.
//
// --coverage counts paths. GCC's counters belong to a description of the unit, which goes to libgcov
// when the program starts and stays in the process as it is, with the checksums of the source that
// was compiled then; clang writes the same in code. A function with other paths has other counters:
// new ones in the patch, while those of the old function count no more.
//
// -fpatchable-function-entry lists the places in front of functions, for tracers. New functions are
// not in the list that the process has.

#include "objdiff/instrumentation.h"

#include <algorithm>
#include <string_view>

namespace qp::objdiff {
namespace {

bool is_path_counters(std::string_view name) {
  return name.starts_with("__gcov0.") || name.starts_with("__llvm_gcov_ctr");
}

bool is_in(const elf::Atom& atom, std::string_view label) {
  return atom.section.find(label) != std::string::npos;
}

}  // namespace

bool is_sanitized(const elf::AtomGraph& graph) {
  return std::any_of(graph.symbols.begin(), graph.symbols.end(), [](const elf::AtomSymbol& s) {
    return !s.atom && s.name.starts_with("__ubsan_handle_");
  });
}

bool describes_checked_place(const elf::Atom& atom, const elf::AtomSymbol& symbol) {
  return symbol.anonymous && !is_code(atom) &&
         (is_in(atom, "..Lubsan_") || is_in(atom, "..L__unnamed_"));
}

bool is_for_tools(const elf::Atom& atom, const elf::AtomSymbol& symbol) {
  return atom.section == "__patchable_function_entries" || is_in(atom, "..LPBX") ||
         symbol.name.starts_with("__gcov_.");
}

void part_resized_counters(const Sides& sides, Correlation& correlation) {
  for (elf::AtomId o = 0; o < correlation.patched_of.size(); ++o) {
    const auto p = correlation.patched_of[o];
    if (p && is_path_counters(sides.original.graph.name_of(o)) &&
        sides.original.atom(o).size != sides.patched.atom(*p).size) {
      correlation.part(o, *p);
    }
  }
}

}  // namespace qp::objdiff
