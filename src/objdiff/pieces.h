// Which atoms belong together, and which data are jump tables.
#pragma once

#include <functional>
#include <string_view>

#include "elf/atom.h"
#include "objdiff/code_map.h"

namespace qp::objdiff {

// Sets Atom::parent of pieces and AtomKind::JumpTable. `map` gives the instructions of a code atom.
void find_pieces(elf::AtomGraph& graph, const std::function<const CodeMap*(elf::AtomId)>& map);

// "f" for "f.cold" and "f.cold.3"; empty for other names.
std::string_view parent_name(std::string_view name);

// The function whose unit `code` belongs to.
inline elf::AtomId root_of(const elf::AtomGraph& graph, elf::AtomId code) {
  return graph.atoms[code].parent.value_or(code);
}

}  // namespace qp::objdiff
