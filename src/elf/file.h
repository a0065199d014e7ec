// An ELF64 little-endian x86-64 file, read into plain values. Everything is bounds-checked when the
// file is opened: after parse() every index and range in here is valid (P8).
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/address.h"
#include "base/bytes.h"
#include "base/fd.h"
#include "base/memory_reader.h"
#include "elf/types.h"

namespace qp::elf {

struct Section {
  uint32_t index = 0;
  std::string name;
  SectionType type = SectionType::Null;
  uint64_t flags = 0;
  LinkAddr address;
  FileOffset offset;
  uint64_t size = 0;
  uint32_t link = 0, info = 0;
  uint64_t alignment = 1, entry_size = 0;
  bool has(uint64_t flag) const { return (flags & flag) != 0; }
};

struct Segment {
  SegmentType type = SegmentType::Null;
  uint32_t flags = 0;  // kSegR | kSegW | kSegX
  FileOffset offset;
  LinkAddr address;
  uint64_t file_size = 0, memory_size = 0, alignment = 0;
};

// Symbol::section. Not the file's numbers: an object with many sections has an ordinary section
// 0xfff1. kSectionUnknown: defined, in a linked file that lost its section headers.
inline constexpr uint32_t kUndefined = 0, kAbsolute = 0xffff'fff1, kCommon = 0xffff'fff2,
                          kSectionUnknown = 0xffff'fff3;

struct Symbol {
  std::string name;     // with "@VER"/"@@VER" split off into `version`
  std::string version;  // "" if none; from .gnu.version* for .dynsym, from the name for .symtab
  bool default_version = true;  // foo@@V rather than foo@V
  uint64_t value = 0;           // offset in the section (ET_REL) or LinkAddr (linked); st_value
  uint64_t size = 0;
  SymbolType type = SymbolType::NoType;
  SymbolBind bind = SymbolBind::Local;
  Visibility visibility = Visibility::Default;
  uint32_t section = 0;  // resolved through SHT_SYMTAB_SHNDX; or kUndefined/kAbsolute/kCommon
  uint32_t index = 0;    // in its table
  bool defined() const { return section != kUndefined; }
};

struct Relocation {
  uint64_t offset = 0;  // in the relocated section (ET_REL) or LinkAddr (linked)
  RelocType type = RelocType::None;
  uint32_t symbol = 0;  // index into the symbol table of the relocation section
  int64_t addend = 0;
};

class File {
 public:
  // Throws Error{bad-file} with the place of what is wrong. `name` is for messages. The bytes are
  // owned and kept.
  static File parse(Bytes bytes, std::string name);
  static File open(const std::filesystem::path& path);

  const std::string& name() const { return name_; }
  FileType type() const { return type_; }
  LinkAddr entry() const { return entry_; }
  ByteView bytes() const { return bytes_; }
  const std::vector<Section>& sections() const { return sections_; }
  const std::vector<Segment>& segments() const { return segments_; }
  const Section* find_section(std::string_view name) const;  // first of that name
  const Section* find_section_at(LinkAddr address) const;    // allocated section that contains it
  ByteView content(const Section& section) const;            // empty for NoBits

  // .symtab (empty if stripped) and .dynsym.
  const std::vector<Symbol>& symbols() const { return symbols_; }
  const std::vector<Symbol>& dynamic_symbols() const { return dynamic_symbols_; }
  // Of ET_REL: the relocations that apply to `section`, by offset; they refer to symbols().
  std::vector<Relocation> relocations(const Section& section) const;
  // Of a linked file: DT_RELA and DT_JMPREL (and .rela.plt of static files); refer to
  // dynamic_symbols().
  std::vector<Relocation> dynamic_relocations() const;
  // COMDAT group members: section indexes per group, with the signature's symbol name.
  struct Group {
    std::string signature;
    std::vector<uint32_t> members;
  };
  std::vector<Group> groups() const;

  std::optional<std::string> build_id() const;  // lower-case hex
  std::string soname() const;                   // "" if none
  std::vector<std::string> needed() const;      // DT_NEEDED
  bool is_static() const;                       // an executable without ld.so, also a static PIE
  bool is_library() const;                      // a shared library, also one that can be run
  bool is_symbolic() const;  // linked with -Bsymbolic: ld.so searches the library itself first
  // DW_AT_producer of the first compile units, without duplicates; .comment's strings if there is
  // no DWARF.
  std::vector<std::string> producers() const;
  // PT_TLS: what a variable's st_value must be added to for its offset from the thread pointer
  // (psABI variant II): st_value − round_up(memsz, align). Nullopt if there is no PT_TLS.
  std::optional<int64_t> tls_block_end() const;
  // Bytes [first PT_LOAD start, last PT_LOAD end), page-aligned.
  LinkRange load_range() const;
  // What is mapped behind a segment because its last page is: bytes of the file that nobody asked for.
  LinkRange tail_of(const Segment& segment) const;

 private:
  File() = default;
  Bytes bytes_;
  std::string name_;
  FileType type_ = FileType::Relocatable;
  LinkAddr entry_;
  std::vector<Section> sections_;
  std::vector<Segment> segments_;
  std::vector<Symbol> symbols_, dynamic_symbols_;
  std::vector<std::vector<uint32_t>> relocated_by_;  // per section: its SHT_RELA sections
};

// The content of PT_LOAD segments as the kernel would map it (zero-filled bss), read from a file.
class FileReader final : public TargetReader {
 public:
  explicit FileReader(const File& file) : file_(file) {}  // borrows
  size_t read_some(LinkAddr at, ByteSpan out) const override;

 private:
  const File& file_;
};

// The same, and what is mapped behind segments of code (File::tail_of). It is no part of the program:
// nothing of it is to be found there, but something may have been put there. False: not all is there.
bool read_code(const File& file, LinkAddr at, ByteSpan out);

// The GNU build-id from the bytes of a PT_NOTE segment; used for live memory too.
std::optional<std::string> find_build_id(ByteView notes);

}  // namespace qp::elf
