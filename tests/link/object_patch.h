// A patch made of a whole compiled object: every allocated section becomes one atom. Not a diff;
// just what compilers really emit, for the linker's tests.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/subprocess.h"
#include "elf/cfi.h"
#include "elf/file.h"
#include "format/patch.h"

namespace qp::link {

// Compiles `source` (C++) and reads the object. Fails the calling test by an exception.
inline elf::File compile(const TempDir& directory, const std::string& compiler,
                         const std::string& source, std::vector<std::string> flags) {
  auto cc = directory.path() / "unit.cc", object = directory.path() / "unit.o";
  write_file(cc, as_bytes(source));
  std::vector<std::string> argv{compiler, "-c", "-O2", "-ffunction-sections", "-fdata-sections"};
  argv.insert(argv.end(), flags.begin(), flags.end());
  argv.insert(argv.end(), {cc.string(), "-o", object.string()});
  RunResult result = run(argv);
  if (result.exit_code != 0) {
    throw std::runtime_error(compiler + ": " + result.err);
  }
  return elf::File::open(object);
}

inline elf::Storage storage_of(const elf::Section& section) {
  if (section.has(elf::kExec)) {
    return elf::Storage::Text;
  }
  if (!section.has(elf::kWrite)) {
    return elf::Storage::ReadOnly;
  }
  if (section.type == elf::SectionType::NoBits) {
    return elf::Storage::Bss;
  }
  return section.name.starts_with(".data.rel.ro") ? elf::Storage::RelRo : elf::Storage::Data;
}

using BindingOf = std::function<elf::Binding(const std::string& name)>;

inline format::Patch patch_from(const elf::File& object, bool position_independent,
                                const BindingOf& binding_of) {
  format::Patch patch;
  patch.meta.target_name = "victim";
  patch.meta.target_build_id = "00";
  patch.meta.position_independent = position_independent;
  elf::AtomGraph& graph = patch.fresh;
  std::map<uint32_t, elf::AtomId> atom_of;  // by section
  for (const elf::Section& s : object.sections()) {
    bool content = s.type == elf::SectionType::ProgBits || s.type == elf::SectionType::NoBits;
    if (!s.has(elf::kAlloc) || !content || s.size == 0 || s.name == ".eh_frame") {
      continue;
    }
    elf::Atom atom;
    atom.storage = storage_of(s);
    atom.kind =
        atom.storage == elf::Storage::Text ? elf::AtomKind::Function : elf::AtomKind::Anonymous;
    atom.alignment = s.alignment;
    atom.size = s.size;
    atom.bytes = copy(object.content(s));
    atom.section = s.name;
    atom_of[s.index] = static_cast<elf::AtomId>(graph.atoms.size());
    graph.atoms.push_back(std::move(atom));
  }
  // Symbols keep their numbers; those of sections stand for the section's atom.
  for (const elf::Symbol& s : object.symbols()) {
    elf::AtomSymbol symbol;
    symbol.name = s.name;
    symbol.type = s.type;
    symbol.bind = s.bind;
    symbol.size = s.size;
    symbol.anonymous = s.type == elf::SymbolType::Section || s.name.empty();
    elf::Binding binding;
    if (atom_of.contains(s.section)) {
      symbol.atom = atom_of[s.section];
      symbol.offset = s.value;
      if (!symbol.anonymous && s.value == 0) {
        graph.atoms[*symbol.atom].symbol = static_cast<elf::AtomSymbolId>(graph.symbols.size());
      }
    } else if (!s.defined() && !s.name.empty()) {
      binding = binding_of(s.name);
    }
    graph.symbols.push_back(std::move(symbol));
    patch.fresh_bindings.push_back(binding);
  }
  std::map<uint32_t, elf::AtomSymbolId> number;  // of File::symbols(), by their index
  for (size_t i = 0; i < object.symbols().size(); ++i) {
    number[object.symbols()[i].index] = static_cast<elf::AtomSymbolId>(i);
  }
  auto ref = [&](const elf::Relocation& r, uint64_t at) {
    return elf::Ref{at, r.type, number.at(r.symbol), r.addend};
  };
  for (const auto& [section, id] : atom_of) {
    for (const elf::Relocation& r : object.relocations(object.sections()[section])) {
      graph.atoms[id].refs.push_back(ref(r, r.offset));
    }
  }
  for (const elf::FrameRecord& record : elf::read_frame_records(object)) {
    elf::FrameEntry entry;
    entry.offset = record.offset;
    entry.size = record.size;
    entry.cie = record.cie;
    entry.instructions = record.instructions;
    if (record.personality) {
      entry.personality = ref(*record.personality, 0);
    }
    if (record.lsda) {
      entry.lsda = ref(*record.lsda, 0);
    }
    graph.atoms[atom_of.at(record.section)].frames.push_back(std::move(entry));
  }
  return patch;
}

}  // namespace qp::link
