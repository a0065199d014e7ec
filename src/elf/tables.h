// Private to elf: the tables of a file (strings, symbols, dynamic section), read with checks.
#pragma once

#include <elf.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "elf/file.h"

namespace qp::elf {

// [offset, offset + size) of a file, or Error{bad-file} that says what should have been there.
ByteView file_part(ByteView bytes, uint64_t offset, uint64_t size, std::string_view file,
                   std::string_view what);

// Strings by offset. A hostile table can name one long string a million times, so what is handed
// out altogether is limited to a multiple of the table's size.
class StringTable {
 public:
  StringTable() = default;
  StringTable(ByteView bytes, std::string_view file, std::string_view what)
      : bytes_(bytes), file_(file), what_(what), left_(bytes.size() * 8 + (uint64_t{16} << 20)) {}
  // Throws Error{bad-file} if the offset is outside or the string has no end.
  std::string_view text(uint64_t offset);

 private:
  ByteView bytes_;
  std::string file_, what_;
  uint64_t left_ = 0;
};

// What st_shndx may name.
struct SectionNumbers {
  uint64_t count = 0;  // of section headers; 0: the file has none
  ByteView extended;   // content of SHT_SYMTAB_SHNDX, if any
};
// Elf64_Sym[] without version handling. Throws Error{bad-file}.
std::vector<Symbol> read_symbols(ByteView table, StringTable& strings, SectionNumbers numbers,
                                 std::string_view file, std::string_view what);
// "name@VER", "name@@VER" (the way of static linkers to write a version into .symtab).
void split_version(Symbol& symbol);

// The dynamic section of a linked file, through PT_DYNAMIC: a file works without section headers.
class DynamicTable {
 public:
  DynamicTable(ByteView bytes, const std::vector<Segment>& segments, std::string_view file);

  std::optional<uint64_t> find(int64_t tag) const;  // the first of that tag
  std::vector<uint64_t> all(int64_t tag) const;
  bool empty() const { return entries_.empty(); }
  // Bytes at a linked address that come from the file: `size` of them, or all up to the end of the
  // segment if nullopt. Throws Error{bad-file}.
  ByteView at(uint64_t address, std::optional<uint64_t> size, std::string_view what) const;
  StringTable strings() const;
  // Elf64_Sym[], its size taken from the hash tables. Empty if there is none.
  ByteView symbols() const;
  // Sets the versions of `symbols` (.dynsym) from DT_VERSYM, DT_VERNEED and DT_VERDEF.
  void set_versions(std::vector<Symbol>& symbols) const;

 private:
  ByteView bytes_;
  const std::vector<Segment>& segments_;
  std::string file_;
  std::vector<Elf64_Dyn> entries_;
};

}  // namespace qp::elf
