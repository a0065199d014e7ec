// Private to format: an AtomGraph as sections and symbols of an ELF object, without loss.
#pragma once

#include <string>
#include <vector>

#include "elf/atom.h"
#include "elf/file.h"
#include "elf/object_writer.h"

namespace qp::format {

inline constexpr const char* kAtomsSection = ".qpatch.atoms";

// Atom i is section i + 1 of the file, and the relocations of that section are its refs. Symbols
// are in the final order (locals first), so symbol number n of the file is symbols[n - 1].
struct GraphParts {
  std::vector<elf::OutSection> sections;  // one per atom
  std::vector<elf::OutSymbol> symbols;    // those of the graph, and FILE symbols for readers
  elf::OutSection rest;                   // .qpatch.atoms: what ELF can't express
};
GraphParts encode_graph(const elf::AtomGraph& graph);

// Inverse; `file` is a relocatable file whose first sections are the atoms and whose symbol table
// is the section `symtab`. Throws Error{bad-file}. Ranges and indexes of the result are valid as
// far as ELF and the encoding go; check_graph() does the rest.
elf::AtomGraph decode_graph(const elf::File& file, std::string_view symtab);

// A graph as a relocatable file of its own, and back.
Bytes write_graph(const elf::AtomGraph& graph);
elf::AtomGraph read_graph(Bytes bytes, const std::string& name);

// The section `name`, or Error{bad-file}.
const elf::Section& demand_section(const elf::File& file, std::string_view name,
                                   elf::SectionType type);

}  // namespace qp::format
