// Opens an ELF64 x86-64 file: headers, sections, segments, symbols.
//
// One rule carries all of it: after parse() every index and every range in the plain values is
// valid, so that nobody behind this door has to think of hostile files again (P8). What is checked
// and against what:
// - header tables against the bytes of the file, before anything is allocated for them;
// - content of sections and segments against the file; addresses against overflow;
// - sh_link, and sh_info where it is a section, against the number of sections;
// - symbols of relocatable files against the size of their section.
// Two things look broken and are not. A separate debug file (objcopy --only-keep-debug, eu-strip
// -f) keeps the program headers of the file that it was split from, while the content is gone: its
// segments then count as empty in the file. And an object with more than 65,279 sections keeps the
// number of sections, and the section numbers of symbols, in places of their own (gABI, "Sections":
// e_shnum 0, SHN_XINDEX, SHT_SYMTAB_SHNDX).
//
// A linked file is understood without section headers too: segments and the dynamic section are
// what the kernel and ld.so use. The dynamic symbols come from the section if there is one, else
// from DT_SYMTAB.
//
// References: System V gABI (2013-06-10 draft) chapters 4 and 5; x86-64 psABI 1.0; for build-ids
// binutils' documentation of --build-id.

#include "elf/file.h"

#include <elf.h>

#include <algorithm>

#include <fmt/format.h>

#include "base/error.h"
#include "elf/tables.h"

namespace qp::elf {
namespace {

// No user-space address of x86-64 is above this (five-level page tables included).
constexpr uint64_t kAddressLimit = uint64_t{1} << 57;
// Images that lie below a position-independent target have link addresses just below 2^64, which
// the target's load bias wraps around to ordinary ones.
constexpr uint64_t kWrappedAddresses = ~uint64_t{0} - (uint64_t{1} << 32) + 1;

// True if [address, address + size), rounded up to pages, can be a place in a process. Sums of the
// two never overflow after this.
bool is_possible(uint64_t address, uint64_t size) {
  if (address < kWrappedAddresses) {
    return address <= kAddressLimit && size <= kAddressLimit;
  }
  constexpr uint64_t kLast = ~uint64_t{0} - kPageSize;
  return address <= kLast && size <= kLast - address;
}

bool is_power_of_two(uint64_t v) {
  return (v & (v - 1)) == 0;
}

struct Headers {
  Elf64_Ehdr file;
  uint64_t section_count = 0, segment_count = 0;
  uint32_t section_names = 0;
};

Headers read_headers(ByteView bytes, std::string_view name) {
  Headers h;
  if (bytes.size() < sizeof(Elf64_Ehdr) || as_text(bytes).substr(0, SELFMAG) != ELFMAG) {
    throw bad_file(name, "it is not an ELF file");
  }
  h.file = load<Elf64_Ehdr>(bytes);
  if (h.file.e_ident[EI_CLASS] != ELFCLASS64 || h.file.e_ident[EI_DATA] != ELFDATA2LSB ||
      h.file.e_machine != EM_X86_64) {
    throw bad_file(name, "it is an ELF file, but not for 64-bit x86-64");
  }
  if (h.file.e_ident[EI_VERSION] != EV_CURRENT || h.file.e_version != EV_CURRENT) {
    throw bad_file(name, "its ELF version is not 1");
  }
  if (h.file.e_type != ET_REL && h.file.e_type != ET_EXEC && h.file.e_type != ET_DYN) {
    throw bad_file(name,
                   fmt::format("its type, {}, is not object, program or library", h.file.e_type));
  }
  h.section_count = h.file.e_shnum;
  h.section_names = h.file.e_shstrndx;
  h.segment_count = h.file.e_phnum;
  if (h.file.e_shoff == 0) {
    h.section_count = 0;
  } else {
    if (h.file.e_shentsize != sizeof(Elf64_Shdr)) {
      throw bad_file(name, fmt::format("its section headers have {} bytes", h.file.e_shentsize));
    }
    auto first = load<Elf64_Shdr>(
        file_part(bytes, h.file.e_shoff, sizeof(Elf64_Shdr), name, "the first section header"));
    if (h.section_count == 0) {
      h.section_count = first.sh_size;
    }
    if (h.section_names == SHN_XINDEX) {
      h.section_names = first.sh_link;
    }
    if (h.segment_count == PN_XNUM) {
      h.segment_count = first.sh_info;
    }
  }
  if (h.segment_count != 0 && h.file.e_phentsize != sizeof(Elf64_Phdr)) {
    throw bad_file(name, fmt::format("its program headers have {} bytes", h.file.e_phentsize));
  }
  return h;
}

// The table of `count` headers of `size` bytes; its size can't overflow, since the file is smaller.
ByteView header_table(ByteView bytes, uint64_t offset, uint64_t count, uint64_t size,
                      std::string_view name, std::string_view what) {
  if (count > bytes.size() / size) {
    throw bad_file(name,
                   fmt::format("{} {} do not fit into its {} bytes", count, what, bytes.size()));
  }
  return file_part(bytes, offset, count * size, name, what);
}

std::vector<Section> read_sections(ByteView bytes, const Headers& h, std::string_view name) {
  std::vector<Section> out;
  if (h.section_count == 0) {
    return out;
  }
  ByteView table = header_table(bytes, h.file.e_shoff, h.section_count, sizeof(Elf64_Shdr), name,
                                "section headers");
  if (h.section_names >= h.section_count) {
    throw bad_file(name, "the section with the section names does not exist");
  }
  auto names_header = load<Elf64_Shdr>(table, h.section_names * sizeof(Elf64_Shdr));
  StringTable names;
  if (h.section_names != 0) {
    if (names_header.sh_type != SHT_STRTAB) {
      throw bad_file(name, "the section names are not in a string table");
    }
    names = {
        file_part(bytes, names_header.sh_offset, names_header.sh_size, name, "the section names"),
        name, "section names"};
  }
  out.reserve(h.section_count);
  for (uint64_t i = 0; i < h.section_count; ++i) {
    auto raw = load<Elf64_Shdr>(table, i * sizeof(Elf64_Shdr));
    Section s;
    s.index = static_cast<uint32_t>(i);
    // Section 0 holds nothing but the counts that did not fit elsewhere.
    if (i == 0 || raw.sh_type == SHT_NULL) {
      out.push_back(s);
      continue;
    }
    auto place = fmt::format("section {}", i);
    s.name = names.text(raw.sh_name);
    s.type = static_cast<SectionType>(raw.sh_type);
    s.flags = raw.sh_flags;
    s.address = LinkAddr(raw.sh_addr);
    s.offset = FileOffset(raw.sh_offset);
    s.size = raw.sh_size;
    s.link = raw.sh_link;
    s.info = raw.sh_info;
    s.alignment = std::max<uint64_t>(raw.sh_addralign, 1);
    s.entry_size = raw.sh_entsize;
    if (raw.sh_type != SHT_NOBITS) {
      file_part(bytes, raw.sh_offset, raw.sh_size, name, place);
    }
    if (!is_possible(raw.sh_addr, raw.sh_size) || s.alignment > kAddressLimit ||
        !is_power_of_two(s.alignment)) {
      throw bad_file(name, fmt::format("{} has an impossible address, size or alignment", place));
    }
    bool info_is_section =
        raw.sh_type == SHT_REL || raw.sh_type == SHT_RELA || (raw.sh_flags & SHF_INFO_LINK) != 0;
    if (s.link >= h.section_count || (info_is_section && s.info >= h.section_count)) {
      throw bad_file(name, fmt::format("{} refers to a section that does not exist", place));
    }
    out.push_back(std::move(s));
  }
  return out;
}

// The content of the program was split off, the headers were kept.
bool is_debug_file(const std::vector<Section>& sections) {
  bool code = false;
  for (const Section& s : sections) {
    if (s.has(kAlloc) && s.has(kExec)) {
      code = true;
      if (s.type != SectionType::NoBits) {
        return false;
      }
    }
  }
  return code;
}

std::vector<Segment> read_segments(ByteView bytes, const Headers& h, bool debug_file,
                                   std::string_view name) {
  std::vector<Segment> out;
  if (h.segment_count == 0) {
    return out;
  }
  ByteView table = header_table(bytes, h.file.e_phoff, h.segment_count, sizeof(Elf64_Phdr), name,
                                "program headers");
  out.reserve(h.segment_count);
  for (uint64_t i = 0; i < h.segment_count; ++i) {
    auto raw = load<Elf64_Phdr>(table, i * sizeof(Elf64_Phdr));
    Segment s;
    s.type = static_cast<SegmentType>(raw.p_type);
    s.flags = raw.p_flags;
    s.offset = FileOffset(raw.p_offset);
    s.address = LinkAddr(raw.p_vaddr);
    s.file_size = debug_file ? 0 : raw.p_filesz;
    s.memory_size = raw.p_memsz;
    s.alignment = raw.p_align;
    if (debug_file) {
      s.offset = FileOffset(0);
    }
    auto place = fmt::format("segment {}", i);
    file_part(bytes, s.offset.value, s.file_size, name, place);
    if (!is_possible(raw.p_vaddr, raw.p_memsz) || raw.p_align > kAddressLimit ||
        !is_power_of_two(raw.p_align) || (raw.p_type == PT_LOAD && s.file_size > s.memory_size)) {
      throw bad_file(name, fmt::format("{} has an impossible address, size or alignment", place));
    }
    out.push_back(s);
  }
  return out;
}

void check_symbols_in_sections(const std::vector<Symbol>& symbols,
                               const std::vector<Section>& sections, std::string_view name) {
  for (const Symbol& s : symbols) {
    if (s.section == kUndefined || s.section >= sections.size()) {
      continue;
    }
    uint64_t size = sections[s.section].size;
    if (sections[s.section].has(kCompressed)) {
      continue;  // positions count in the uncompressed section (gABI); debug sections only
    }
    if (s.value > size || s.size > size - s.value) {
      throw bad_file(name, fmt::format("symbol '{}' is outside of its section {}", s.name,
                                       sections[s.section].name));
    }
  }
}

}  // namespace

File File::parse(Bytes bytes, std::string name) {
  File f;
  f.bytes_ = std::move(bytes);
  f.name_ = std::move(name);
  Headers h = read_headers(f.bytes_, f.name_);
  f.type_ = static_cast<FileType>(h.file.e_type);
  f.entry_ = LinkAddr(h.file.e_entry);
  f.sections_ = read_sections(f.bytes_, h, f.name_);
  bool debug_file = is_debug_file(f.sections_) && f.type_ != FileType::Relocatable;
  f.segments_ = read_segments(f.bytes_, h, debug_file, f.name_);
  f.relocated_by_.resize(f.sections_.size());

  auto read_table = [&](const Section& section) {
    if (section.entry_size != sizeof(Elf64_Sym)) {
      throw bad_file(f.name_, fmt::format("the entries of {} have {} bytes", section.name,
                                          section.entry_size));
    }
    const Section& strings = f.sections_[section.link];
    if (strings.type != SectionType::StrTab) {
      throw bad_file(f.name_, fmt::format("{} has no string table", section.name));
    }
    StringTable names(f.content(strings), f.name_, strings.name);
    SectionNumbers numbers{f.sections_.size(), {}};
    for (const Section& s : f.sections_) {
      if (s.type == SectionType::SymTabShndx && s.link == section.index) {
        numbers.extended = f.content(s);
      }
    }
    return read_symbols(f.content(section), names, numbers, f.name_, section.name);
  };
  bool symtab = false, dynsym = false;
  for (const Section& s : f.sections_) {
    if (s.type == SectionType::SymTab && !symtab) {
      symtab = true;
      f.symbols_ = read_table(s);
    } else if (s.type == SectionType::DynSym && !dynsym && f.type_ != FileType::Relocatable) {
      dynsym = true;
      f.dynamic_symbols_ = read_table(s);
    } else if (s.type == SectionType::Rela || s.type == SectionType::Rel) {
      f.relocated_by_[s.info].push_back(s.index);
    }
  }
  for (Symbol& s : f.symbols_) {
    split_version(s);
  }
  if (f.type_ == FileType::Relocatable) {
    check_symbols_in_sections(f.symbols_, f.sections_, f.name_);
    return f;
  }
  DynamicTable dynamic(f.bytes_, f.segments_, f.name_);
  if (!dynsym) {
    StringTable names = dynamic.strings();
    f.dynamic_symbols_ =
        read_symbols(dynamic.symbols(), names, {f.sections_.size(), {}}, f.name_, "DT_SYMTAB");
  }
  dynamic.set_versions(f.dynamic_symbols_);
  return f;
}

File File::open(const std::filesystem::path& path) {
  return parse(read_file(path), path.string());
}

const Section* File::find_section(std::string_view name) const {
  auto it = std::find_if(sections_.begin(), sections_.end(), [&](const Section& s) {
    return s.type != SectionType::Null && s.name == name;
  });
  return it == sections_.end() ? nullptr : &*it;
}

const Section* File::find_section_at(LinkAddr address) const {
  auto it = std::find_if(sections_.begin(), sections_.end(), [&](const Section& s) {
    // .tbss has addresses, but takes no room: what follows it overlaps.
    return s.has(kAlloc) && !(s.has(kTls) && s.type == SectionType::NoBits) &&
           s.address <= address && address.value - s.address.value < s.size;
  });
  return it == sections_.end() ? nullptr : &*it;
}

ByteView File::content(const Section& section) const {
  if (section.type == SectionType::NoBits || section.type == SectionType::Null) {
    return {};
  }
  return file_part(bytes_, section.offset.value, section.size, name_, section.name);
}

std::vector<Relocation> File::relocations(const Section& section) const {
  std::vector<Relocation> out;
  for (uint32_t index : relocated_by_.at(section.index)) {
    const Section& table = sections_[index];
    if (table.type == SectionType::Rel) {
      throw bad_file(name_, fmt::format("{} has no addends, which x86-64 demands", table.name));
    }
    if (sections_[table.link].type != SectionType::SymTab) {
      throw bad_file(name_, fmt::format("{} has no symbol table", table.name));
    }
    ByteView bytes = content(table);
    if (bytes.size() % sizeof(Elf64_Rela) != 0) {
      throw bad_file(name_, fmt::format("the size of {} is not a multiple of {}", table.name,
                                        sizeof(Elf64_Rela)));
    }
    out.reserve(out.size() + bytes.size() / sizeof(Elf64_Rela));
    for (uint64_t at = 0; at < bytes.size(); at += sizeof(Elf64_Rela)) {
      auto raw = load<Elf64_Rela>(bytes, at);
      Relocation r{raw.r_offset, static_cast<RelocType>(ELF64_R_TYPE(raw.r_info)),
                   static_cast<uint32_t>(ELF64_R_SYM(raw.r_info)), raw.r_addend};
      const RelocTraits* traits = find_traits(r.type);
      uint64_t width = traits != nullptr ? traits->width : 0;
      bool outside =
          !section.has(kCompressed) && (r.offset > section.size || width > section.size - r.offset);
      if (outside || r.symbol >= symbols_.size()) {
        throw bad_file(name_, fmt::format("relocation {} of {} is outside of the section or of "
                                          "the symbol table",
                                          at / sizeof(Elf64_Rela), table.name));
      }
      out.push_back(r);
    }
  }
  std::stable_sort(out.begin(), out.end(),
                   [](const Relocation& a, const Relocation& b) { return a.offset < b.offset; });
  return out;
}

std::vector<File::Group> File::groups() const {
  std::vector<Group> out;
  if (type_ != FileType::Relocatable) {
    return out;
  }
  for (const Section& s : sections_) {
    if (s.type != SectionType::Group) {
      continue;
    }
    ByteCursor cursor(content(s), name_);
    if ((cursor.read<uint32_t>() & GRP_COMDAT) == 0) {
      continue;  // a plain group: its members only live and die together
    }
    if (s.info >= symbols_.size()) {
      throw bad_file(name_, fmt::format("group {} has no signature", s.index));
    }
    const Symbol& signature = symbols_[s.info];
    Group group;
    // Some assemblers use the section symbol, whose name is the section's (gABI, "Section Groups").
    group.signature = signature.name.empty() && signature.section < sections_.size()
                          ? sections_[signature.section].name
                          : signature.name;
    while (!cursor.done()) {
      auto member = cursor.read<uint32_t>();
      if (member == 0 || member >= sections_.size()) {
        throw bad_file(name_, fmt::format("group {} has the member {}, which does not exist",
                                          s.index, member));
      }
      group.members.push_back(member);
    }
    out.push_back(std::move(group));
  }
  return out;
}

bool File::is_static() const {
  return !is_library() && std::none_of(segments_.begin(), segments_.end(), [](const Segment& s) {
    return s.type == SegmentType::Interp;
  });
}

std::optional<int64_t> File::tls_block_end() const {
  for (const Segment& s : segments_) {
    if (s.type == SegmentType::Tls) {
      // The block ends at the thread pointer, and its start keeps p_vaddr's place within the
      // alignment (glibc: elf/dl-tls.c, _dl_determine_tlsoffset). Linkers align p_vaddr, and then
      // this is round_up(memsz, align).
      uint64_t mask = std::max<uint64_t>(s.alignment, 1) - 1;
      uint64_t room = s.memory_size + ((0 - s.address.value - s.memory_size) & mask);
      return -static_cast<int64_t>(room);
    }
  }
  return std::nullopt;
}

LinkRange File::load_range() const {
  std::optional<LinkRange> range;
  for (const Segment& s : segments_) {
    if (s.type == SegmentType::Load) {
      LinkRange r{LinkAddr(align_down(s.address.value, kPageSize)),
                  LinkAddr(align_up(s.address.value + s.memory_size, kPageSize))};
      range = range ? LinkRange{std::min(range->start, r.start), std::max(range->end, r.end)} : r;
    }
  }
  return range.value_or(LinkRange{});
}

// Memory is mapped in pages: behind a segment comes what the file has there, unless it is variables that
// begin with zeros (Linux fs/binfmt_elf.c, elf_map() and padzero()).
LinkRange File::tail_of(const Segment& segment) const {
  const LinkAddr end(segment.address.value + segment.memory_size);
  const uint64_t file_end = segment.offset.value + segment.file_size;
  const uint64_t page_end = align_up(end.value, kPageSize);
  if (segment.type != SegmentType::Load || segment.memory_size != segment.file_size ||
      file_end % kPageSize != end.value % kPageSize || page_end < end.value) {
    return {end, end};
  }
  const uint64_t more = file_end < bytes().size() ? bytes().size() - file_end : 0;
  return {end, end + std::min(page_end - end.value, more)};
}

size_t FileReader::read_some(LinkAddr at, ByteSpan out) const {
  size_t done = 0;
  while (done < out.size()) {
    LinkAddr here = at + done;
    const auto& segments = file_.segments();
    auto s = std::find_if(segments.begin(), segments.end(), [&](const Segment& c) {
      return c.type == SegmentType::Load && c.address <= here &&
             here.value - c.address.value < c.memory_size;
    });
    if (s == segments.end()) {
      break;
    }
    uint64_t inside = here.value - s->address.value;
    auto count =
        static_cast<size_t>(std::min<uint64_t>(out.size() - done, s->memory_size - inside));
    size_t from_file = 0;
    if (inside < s->file_size) {
      from_file = static_cast<size_t>(std::min<uint64_t>(count, s->file_size - inside));
      ByteView bytes = file_.bytes().subspan(s->offset.value + inside, from_file);
      std::copy(bytes.begin(), bytes.end(), out.begin() + static_cast<ptrdiff_t>(done));
    }
    std::fill_n(out.begin() + static_cast<ptrdiff_t>(done + from_file), count - from_file,
                std::byte{0});
    done += count;
  }
  return done;
}

bool read_code(const File& file, LinkAddr at, ByteSpan out) {
  if (FileReader(file).try_read(at, out)) {
    return true;
  }
  for (const Segment& s : file.segments()) {
    const LinkRange tail = file.tail_of(s);
    if ((s.flags & kSegX) != 0 && tail.contains(at) &&
        out.size() <= static_cast<uint64_t>(tail.end - at)) {
      const uint64_t inside = s.file_size + static_cast<uint64_t>(at - tail.start);
      const ByteView bytes = file.bytes().subspan(s.offset.value + inside, out.size());
      std::copy(bytes.begin(), bytes.end(), out.begin());
      return true;
    }
  }
  return false;
}

}  // namespace qp::elf
