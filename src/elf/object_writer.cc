// Writes ELF files: relocatable objects (the patch file) and images that processes map.
//
// The two have opposite rules about who decides where things go. In an object nothing has an
// address and the writer lays out content one after the other. In an image the linker (link) has
// placed everything, since file offsets and addresses have to agree modulo the page size; the
// writer only puts content where it was told to and checks that nothing overlaps. Both get the
// tables that tools want at the end: relocations (objects only), symbols, their strings, section
// names, section headers.
//
// Promises:
// - the same input gives the same bytes: nothing depends on time, addresses or hash order;
// - local symbols come before the others, as gABI demands, otherwise in the given order; relocation
//   tables are renumbered accordingly;
// - readelf, objdump and gdb read it without a word of complaint.
// More than 65,279 sections are written in the extended form (gABI "Sections": SHN_XINDEX), since a
// patch has one section per atom.
//
// An input that contradicts itself is a bug of ours, not of a file, and is treated as one.

#include "elf/object_writer.h"

#include <elf.h>

#include <algorithm>
#include <numeric>
#include <optional>

#include "base/error.h"
#include "elf/string_builder.h"

namespace qp::elf {
namespace {

constexpr uint64_t kTableAlignment = 8;

class Writer {
 public:
  explicit Writer(const OutFile& file) : file_(file) {}

  Bytes write() {
    count_headers();
    order_symbols();
    place_header_area();
    place_sections();
    if (relocatable()) {
      write_relocations();
    }
    write_symbols();
    write_names();
    write_headers();
    return std::move(out_);
  }

 private:
  bool relocatable() const { return file_.type == FileType::Relocatable; }

  // Numbers of the tables, which follow the caller's sections.
  void count_headers() {
    uint32_t next = static_cast<uint32_t>(file_.sections.size()) + 1;
    for (const OutSection& s : file_.sections) {
      QP_ASSERT(relocatable() || s.relocations.empty());
      next += s.relocations.empty() ? 0 : 1;
    }
    symtab_ = next++;
    strtab_ = next++;
    if (symtab_ >= SHN_LORESERVE) {
      shndx_ = next++;
    }
    names_ = next++;
    headers_.resize(next);
    headers_name_.resize(next);
  }

  void order_symbols() {
    order_.resize(file_.symbols.size());
    std::iota(order_.begin(), order_.end(), 0U);
    auto first_global = std::stable_partition(order_.begin(), order_.end(), [&](uint32_t i) {
      return file_.symbols[i].bind == SymbolBind::Local;
    });
    first_global_ = static_cast<uint32_t>(first_global - order_.begin()) + 1;
    number_.resize(order_.size());
    for (uint32_t i = 0; i < order_.size(); ++i) {
      number_[order_[i]] = i + 1;
    }
  }

  void place_header_area() {
    out_.resize(sizeof(Elf64_Ehdr) + file_.segments.size() * sizeof(Elf64_Phdr));
    QP_ASSERT(file_.segments.size() < PN_XNUM && (!relocatable() || file_.segments.empty()));
  }

  void set_header(uint32_t index, const std::string& name, Elf64_Shdr header) {
    headers_[index] = header;
    headers_name_[index] = name;
  }

  void place_sections() {
    const uint64_t header_end = out_.size();
    std::vector<std::pair<uint64_t, uint64_t>> placed;
    for (uint32_t i = 0; i < file_.sections.size(); ++i) {
      const OutSection& s = file_.sections[i];
      bool no_bits = s.type == SectionType::NoBits;
      QP_ASSERT(s.alignment != 0 && (s.alignment & (s.alignment - 1)) == 0);
      QP_ASSERT(!no_bits || s.content.empty());
      QP_ASSERT(s.link < headers_.size());
      uint64_t offset = s.offset.value;
      if (relocatable()) {
        offset = align_up(out_.size(), s.alignment);
        out_.resize(offset);
        append_bytes(out_, s.content);
      } else if (!s.content.empty()) {
        QP_ASSERT(offset >= header_end);
        placed.emplace_back(offset, offset + s.content.size());
        out_.resize(std::max<size_t>(out_.size(), offset + s.content.size()));
        store_bytes(out_, offset, s.content);
      }
      Elf64_Shdr h{};
      h.sh_type = static_cast<uint32_t>(s.type);
      h.sh_flags = s.flags;
      h.sh_addr = s.address.value;
      h.sh_offset = offset;
      h.sh_size = no_bits ? s.size : s.content.size();
      h.sh_link = s.link;
      h.sh_info = s.info;
      h.sh_addralign = s.alignment;
      h.sh_entsize = s.entry_size;
      set_header(i + 1, s.name, h);
    }
    std::sort(placed.begin(), placed.end());
    for (size_t i = 1; i < placed.size(); ++i) {
      QP_ASSERT(placed[i - 1].second <= placed[i].first);
    }
    // A segment may end behind the last content, in padding that is mapped.
    for (const Segment& s : file_.segments) {
      out_.resize(std::max<size_t>(out_.size(), s.offset.value + s.file_size));
    }
  }

  // Appends content at the end of the file as section `index`.
  void add_table(uint32_t index, const std::string& name, Elf64_Shdr header, ByteView content) {
    out_.resize(align_up(out_.size(), header.sh_addralign));
    header.sh_offset = out_.size();
    header.sh_size = content.size();
    append_bytes(out_, content);
    set_header(index, name, header);
  }

  void write_relocations() {
    uint32_t next = static_cast<uint32_t>(file_.sections.size()) + 1;
    for (uint32_t i = 0; i < file_.sections.size(); ++i) {
      const OutSection& s = file_.sections[i];
      if (s.relocations.empty()) {
        continue;
      }
      std::vector<Relocation> renumbered = s.relocations;
      for (Relocation& r : renumbered) {
        QP_ASSERT(r.symbol < number_.size());
        r.symbol = number_[r.symbol];
      }
      Elf64_Shdr h{};
      h.sh_type = SHT_RELA;
      h.sh_flags = SHF_INFO_LINK;
      h.sh_link = symtab_;
      h.sh_info = i + 1;
      h.sh_addralign = kTableAlignment;
      h.sh_entsize = sizeof(Elf64_Rela);
      add_table(next++, ".rela" + s.name, h, encode_rela(renumbered));
    }
  }

  void write_symbols() {
    StringBuilder strings;
    Bytes table, extended;
    append(table, Elf64_Sym{});
    append(extended, uint32_t{0});
    for (uint32_t i : order_) {
      const OutSymbol& s = file_.symbols[i];
      bool special = s.section == kAbsolute || s.section == kCommon || s.section == kUndefined;
      QP_ASSERT(special || s.section <= file_.sections.size());
      append(table, encode_symbol(s, strings.add(s.name)));
      append(extended, !special && s.section >= SHN_LORESERVE ? s.section : uint32_t{0});
    }
    Elf64_Shdr h{};
    h.sh_type = SHT_SYMTAB;
    h.sh_link = strtab_;
    h.sh_info = first_global_;
    h.sh_addralign = kTableAlignment;
    h.sh_entsize = sizeof(Elf64_Sym);
    add_table(symtab_, file_.symtab_name, h, table);
    h = {};
    h.sh_type = SHT_STRTAB;
    h.sh_addralign = 1;
    add_table(strtab_, file_.strtab_name, h, strings.bytes());
    if (shndx_) {
      h = {};
      h.sh_type = SHT_SYMTAB_SHNDX;
      h.sh_link = symtab_;
      h.sh_addralign = 4;
      h.sh_entsize = sizeof(uint32_t);
      add_table(*shndx_, file_.symtab_name + "_shndx", h, extended);
    }
  }

  void write_names() {
    StringBuilder strings;
    headers_name_[names_] = ".shstrtab";
    for (uint32_t i = 1; i < headers_.size(); ++i) {
      headers_[i].sh_name = strings.add(headers_name_[i]);
    }
    Elf64_Shdr h{};
    h.sh_name = headers_[names_].sh_name;
    h.sh_type = SHT_STRTAB;
    h.sh_addralign = 1;
    add_table(names_, ".shstrtab", h, strings.bytes());
  }

  void write_headers() {
    out_.resize(align_up(out_.size(), kTableAlignment));
    Elf64_Ehdr e{};
    std::copy_n(ELFMAG, SELFMAG, e.e_ident);
    e.e_ident[EI_CLASS] = ELFCLASS64;
    e.e_ident[EI_DATA] = ELFDATA2LSB;
    e.e_ident[EI_VERSION] = EV_CURRENT;
    e.e_type = static_cast<uint16_t>(file_.type);
    e.e_machine = EM_X86_64;
    e.e_version = EV_CURRENT;
    e.e_ehsize = sizeof(Elf64_Ehdr);
    e.e_phoff = file_.segments.empty() ? 0 : sizeof(Elf64_Ehdr);
    e.e_phentsize = file_.segments.empty() ? 0 : sizeof(Elf64_Phdr);
    e.e_phnum = static_cast<uint16_t>(file_.segments.size());
    e.e_shoff = out_.size();
    e.e_shentsize = sizeof(Elf64_Shdr);
    e.e_shnum = static_cast<uint16_t>(headers_.size());
    e.e_shstrndx = static_cast<uint16_t>(names_);
    if (headers_.size() >= SHN_LORESERVE) {
      e.e_shnum = 0;
      headers_[0].sh_size = headers_.size();
    }
    if (names_ >= SHN_LORESERVE) {
      e.e_shstrndx = SHN_XINDEX;
      headers_[0].sh_link = names_;
    }
    store(ByteSpan(out_), 0, e);
    for (size_t i = 0; i < file_.segments.size(); ++i) {
      const Segment& s = file_.segments[i];
      Elf64_Phdr p{};
      p.p_type = static_cast<uint32_t>(s.type);
      p.p_flags = s.flags;
      p.p_offset = s.offset.value;
      p.p_vaddr = p.p_paddr = s.address.value;
      p.p_filesz = s.file_size;
      p.p_memsz = s.memory_size;
      p.p_align = s.alignment;
      store(ByteSpan(out_), sizeof(Elf64_Ehdr) + i * sizeof(Elf64_Phdr), p);
    }
    for (const Elf64_Shdr& h : headers_) {
      append(out_, h);
    }
  }

  const OutFile& file_;
  Bytes out_;
  std::vector<Elf64_Shdr> headers_;
  std::vector<std::string> headers_name_;
  std::vector<uint32_t> order_;   // written position (without the null symbol) -> input index
  std::vector<uint32_t> number_;  // input index -> written number
  uint32_t first_global_ = 1;
  uint32_t symtab_ = 0, strtab_ = 0, names_ = 0;
  std::optional<uint32_t> shndx_;
};

}  // namespace

Bytes write_file(const OutFile& file) {
  return Writer(file).write();
}

}  // namespace qp::elf
