// Symbol tables, relocation tables and notes as raw bytes.
//
// A patch file has two symbol tables: its own, and that of the running program. ELF tools expect
// one, so the second is written by hand into a section of its own, in the same encoding, and read
// back by hand with the same checks as a real one. The relocation table that ties the two together
// is encoded here too. Both directions are exact inverses for everything that the encoding can
// hold; what it can't hold is a bug of the caller, not a silent cut.

#include <elf.h>

#include <fmt/format.h>

#include "base/error.h"
#include "elf/object_writer.h"
#include "elf/string_builder.h"
#include "elf/tables.h"

namespace qp::elf {

Elf64_Sym encode_symbol(const OutSymbol& symbol, uint32_t name) {
  Elf64_Sym raw{};
  raw.st_name = name;
  raw.st_value = symbol.value;
  raw.st_size = symbol.size;
  raw.st_info = static_cast<unsigned char>(
      ELF64_ST_INFO(static_cast<unsigned>(symbol.bind), static_cast<unsigned>(symbol.type)));
  raw.st_other = static_cast<unsigned char>(symbol.visibility);
  switch (symbol.section) {
    case kUndefined:
      raw.st_shndx = SHN_UNDEF;
      break;
    case kAbsolute:
      raw.st_shndx = SHN_ABS;
      break;
    case kCommon:
      raw.st_shndx = SHN_COMMON;
      break;
    default:
      raw.st_shndx = symbol.section < SHN_LORESERVE ? static_cast<uint16_t>(symbol.section)
                                                    : static_cast<uint16_t>(SHN_XINDEX);
  }
  return raw;
}

RawSymtab encode_symtab(const std::vector<OutSymbol>& symbols) {
  StringBuilder strings;
  RawSymtab out;
  append(out.symbols, Elf64_Sym{});
  for (const OutSymbol& s : symbols) {
    QP_ASSERT(s.section < SHN_LORESERVE || s.section == kAbsolute);
    append(out.symbols, encode_symbol(s, strings.add(s.name)));
  }
  out.strings = strings.bytes();
  return out;
}

std::vector<Symbol> decode_symtab(ByteView symbols, ByteView strings, std::string_view file) {
  StringTable names(strings, file, "the string table");
  return read_symbols(symbols, names, SectionNumbers{SHN_LORESERVE, {}}, file, "the symbol table");
}

Bytes encode_rela(const std::vector<Relocation>& relocations) {
  Bytes out;
  out.reserve(relocations.size() * sizeof(Elf64_Rela));
  for (const Relocation& r : relocations) {
    append(out,
           Elf64_Rela{r.offset, ELF64_R_INFO(uint64_t{r.symbol}, static_cast<uint32_t>(r.type)),
                      r.addend});
  }
  return out;
}

std::vector<Relocation> decode_rela(ByteView bytes, std::string_view file) {
  if (bytes.size() % sizeof(Elf64_Rela) != 0) {
    throw bad_file(file, fmt::format("a relocation table has {} bytes, not a multiple of {}",
                                     bytes.size(), sizeof(Elf64_Rela)));
  }
  std::vector<Relocation> out;
  out.reserve(bytes.size() / sizeof(Elf64_Rela));
  for (uint64_t at = 0; at < bytes.size(); at += sizeof(Elf64_Rela)) {
    auto raw = load<Elf64_Rela>(bytes, at);
    out.push_back({raw.r_offset, static_cast<RelocType>(ELF64_R_TYPE(raw.r_info)),
                   static_cast<uint32_t>(ELF64_R_SYM(raw.r_info)), raw.r_addend});
  }
  return out;
}

Bytes encode_note(std::string_view owner, uint32_t type, ByteView description) {
  Bytes out;
  append(out, Elf64_Nhdr{static_cast<uint32_t>(owner.size() + 1),
                         static_cast<uint32_t>(description.size()), type});
  append_text(out, owner);
  out.resize(align_up(out.size() + 1, 4));
  append_bytes(out, description);
  out.resize(align_up(out.size(), 4));
  return out;
}

}  // namespace qp::elf
