// Writes ELF files. Deterministic: the same input gives the same bytes.
#pragma once

#include <string>
#include <vector>

#include "base/address.h"
#include "base/bytes.h"
#include "elf/file.h"
#include "elf/types.h"

namespace qp::elf {

struct OutSymbol {
  std::string name;
  uint64_t value = 0, size = 0;
  SymbolType type = SymbolType::NoType;
  SymbolBind bind = SymbolBind::Local;
  Visibility visibility = Visibility::Default;
  uint32_t section = 0;  // index into OutFile::sections + 1, or kUndefined / kAbsolute
};

struct OutSection {
  std::string name;
  SectionType type = SectionType::ProgBits;
  uint64_t flags = 0, alignment = 1, entry_size = 0;
  LinkAddr address;   // 0 in relocatable files
  FileOffset offset;  // where the content goes in executables/images; ignored in ET_REL
  uint64_t size = 0;  // for NoBits; else content.size()
  Bytes content;
  uint32_t link = 0, info = 0;          // section index (1-based) where the type wants one
  std::vector<Relocation> relocations;  // ET_REL: emitted as .rela<name>; symbol = index into
                                        // OutFile::symbols
};

struct OutFile {
  FileType type = FileType::Relocatable;
  std::vector<OutSection> sections;
  std::vector<OutSymbol> symbols;  // in any order; written locals first, relocations follow
  std::string symtab_name = ".symtab", strtab_name = ".strtab";
  std::vector<Segment> segments;  // images only; offsets are the caller's, headers are at 0
};

// Throws Bug if the input is inconsistent (index out of range, overlapping offsets).
Bytes write_file(const OutFile& file);

// A symbol table as raw bytes with its string table, for .qpatch.symtab.src/.qpatch.strtab.src.
struct RawSymtab {
  Bytes symbols;  // Elf64_Sym[], null entry first
  Bytes strings;
};
RawSymtab encode_symtab(const std::vector<OutSymbol>& symbols);
std::vector<Symbol> decode_symtab(ByteView symbols, ByteView strings, std::string_view file);

// Elf64_Rela[] as raw bytes (for .qpatch.diffdata).
Bytes encode_rela(const std::vector<Relocation>& relocations);
std::vector<Relocation> decode_rela(ByteView bytes, std::string_view file);

// Note section content: one note, padded to 4 bytes.
Bytes encode_note(std::string_view owner, uint32_t type, ByteView description);
inline constexpr uint32_t kNoteBuildId = 3;

}  // namespace qp::elf
