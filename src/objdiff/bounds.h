// Where the atoms of one section begin and end.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "elf/atom.h"
#include "elf/file.h"

namespace qp::objdiff {

// [start, end) in the section. Bytes between bounds are padding.
struct Bounds {
  uint64_t start = 0, end = 0;
  elf::AtomKind kind = elf::AtomKind::Anonymous;
  std::vector<uint32_t> symbols;  // indexes into File::symbols(), defined inside; empty: anonymous
};

elf::Storage storage_of(const elf::Section& section);
// Anonymous for the user: a label of the compiler (".LC3", ".L.str.1").
bool is_private_label(std::string_view name);
// .init_array and its kind: code addresses that run at start or exit.
bool is_init_section(std::string_view name);
// Records that say which functions are hooks (include/qpatch/hooks.h): for qpatch, and no data of
// the program.
bool is_hook_section(std::string_view name);

// `symbols`: the section's defined symbols (indexes), any order. `targets`: offsets that references
// through a section symbol lead to, sorted; used where nothing better bounds anonymous data.
std::vector<Bounds> find_bounds(const elf::File& object, const elf::Section& section,
                                const std::vector<uint32_t>& symbols,
                                const std::vector<uint64_t>& targets);

}  // namespace qp::objdiff
