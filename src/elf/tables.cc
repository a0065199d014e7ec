// Tables of an ELF file: strings, symbols, the dynamic section and its versions.
//
// Nothing in a file can be believed. Offsets can point outside, strings can miss their end, chains
// can be circles, and counts can ask for more memory than the machine has. The rules here:
// - a range is checked before it is read, against the bytes that are really there;
// - a count is never used to allocate before the bytes it stands for were seen;
// - a chain (version records) is walked forward only, and not longer than the file could hold
//   records, so that it ends;
// - a value outside its enumeration is an error, since a reader that does not understand a symbol
//   can't say what the symbol means for a patch.
//
// The dynamic section is found through PT_DYNAMIC and read by address, as ld.so does, because that
// is what a process was started from; section headers are a courtesy that a file may lack. The
// number of dynamic symbols is not written anywhere in it: DT_HASH has it as the length of its
// chain array, DT_GNU_HASH only implicitly (the largest bucket, then its chain to the end mark;
// glibc: elf/dl-lookup.c, do_lookup_x).
//
// Versions: .gnu.version has one 16-bit index per dynamic symbol, bit 15 = hidden (not the default
// version); the index is resolved through DT_VERNEED for imports and DT_VERDEF for definitions (LSB
// core specification, "Symbol Versioning"). Indexes 0 and 1 mean local and global: no version.

#include "elf/tables.h"

#include <algorithm>
#include <unordered_map>

#include <fmt/format.h>

#include "base/error.h"

namespace qp::elf {

ByteView file_part(ByteView bytes, uint64_t offset, uint64_t size, std::string_view file,
                   std::string_view what) {
  if (offset > bytes.size() || size > bytes.size() - offset) {
    throw bad_file(file, fmt::format("{} ({} bytes at offset {}) is outside of the {} bytes", what,
                                     size, offset, bytes.size()));
  }
  return bytes.subspan(offset, size);
}

std::string_view StringTable::text(uint64_t offset) {
  if (offset == 0 && bytes_.empty()) {
    return {};
  }
  if (offset >= bytes_.size()) {
    throw bad_file(file_, fmt::format("offset {} is outside of the string table {} ({} bytes)",
                                      offset, what_, bytes_.size()));
  }
  std::string_view rest = as_text(bytes_.subspan(offset));
  size_t length = rest.find('\0');
  if (length == std::string_view::npos) {
    throw bad_file(file_, fmt::format("the string at offset {} of {} has no end", offset, what_));
  }
  if (length > left_) {
    throw bad_file(file_, fmt::format("the names from {} are implausibly long", what_));
  }
  left_ -= length;
  return rest.substr(0, length);
}

namespace {

SymbolType read_type(unsigned number, std::string_view file, std::string_view place) {
  if (number > static_cast<unsigned>(SymbolType::Tls) &&
      number != static_cast<unsigned>(SymbolType::GnuIfunc)) {
    throw bad_file(file, fmt::format("{} has the unknown type {}", place, number));
  }
  return static_cast<SymbolType>(number);
}

SymbolBind read_bind(unsigned number, std::string_view file, std::string_view place) {
  if (number > static_cast<unsigned>(SymbolBind::Weak) &&
      number != static_cast<unsigned>(SymbolBind::GnuUnique)) {
    throw bad_file(file, fmt::format("{} has the unknown binding {}", place, number));
  }
  return static_cast<SymbolBind>(number);
}

uint32_t read_section_number(const Elf64_Sym& raw, uint64_t index, SectionNumbers numbers,
                             std::string_view file, std::string_view what) {
  uint32_t number = raw.st_shndx;
  switch (raw.st_shndx) {
    case SHN_UNDEF:
      return kUndefined;
    case SHN_ABS:
      return kAbsolute;
    case SHN_COMMON:
      return kCommon;
    case SHN_XINDEX:
      if (numbers.extended.size() / sizeof(uint32_t) <= index) {
        throw bad_file(file,
                       fmt::format("symbol {} of {} has no extended section number", index, what));
      }
      number = load<uint32_t>(numbers.extended, index * sizeof(uint32_t));
      break;
    default:
      if (numbers.count == 0) {
        return kSectionUnknown;
      }
      if (raw.st_shndx >= SHN_LORESERVE) {
        throw bad_file(file, fmt::format("symbol {} of {} has the reserved section number {:#x}",
                                         index, what, raw.st_shndx));
      }
  }
  if (number >= numbers.count) {
    throw bad_file(file, fmt::format("symbol {} of {} is in section {}, and there are {}", index,
                                     what, number, numbers.count));
  }
  return number;
}

}  // namespace

std::vector<Symbol> read_symbols(ByteView table, StringTable& strings, SectionNumbers numbers,
                                 std::string_view file, std::string_view what) {
  if (table.size() % sizeof(Elf64_Sym) != 0) {
    throw bad_file(file, fmt::format("the size of {}, {}, is not a multiple of {}", what,
                                     table.size(), sizeof(Elf64_Sym)));
  }
  uint64_t count = table.size() / sizeof(Elf64_Sym);
  std::vector<Symbol> out;
  out.reserve(count);
  for (uint64_t i = 0; i < count; ++i) {
    auto raw = load<Elf64_Sym>(table, i * sizeof(Elf64_Sym));
    Symbol s;
    s.index = static_cast<uint32_t>(i);
    s.value = raw.st_value;
    s.size = raw.st_size;
    if (i > 0) {
      auto place = [&] { return fmt::format("symbol {} of {}", i, what); };
      unsigned type = ELF64_ST_TYPE(raw.st_info), bind = ELF64_ST_BIND(raw.st_info);
      // The text of the place is made only for an error: a table has a million symbols.
      s.type = type <= STT_TLS ? static_cast<SymbolType>(type) : read_type(type, file, place());
      s.bind = bind <= STB_WEAK ? static_cast<SymbolBind>(bind) : read_bind(bind, file, place());
      s.visibility = static_cast<Visibility>(ELF64_ST_VISIBILITY(raw.st_other));
      s.section = read_section_number(raw, i, numbers, file, what);
      s.name = strings.text(raw.st_name);
    }
    out.push_back(std::move(s));
  }
  return out;
}

void split_version(Symbol& symbol) {
  if (symbol.type == SymbolType::File || symbol.type == SymbolType::Section) {
    return;
  }
  size_t at = symbol.name.find('@');
  if (at == std::string::npos || at == 0) {
    return;
  }
  size_t version = symbol.name.find_first_not_of('@', at);
  if (version == std::string::npos || version - at > 2) {
    return;
  }
  symbol.default_version = version - at == 2;
  symbol.version = symbol.name.substr(version);
  symbol.name.resize(at);
}

DynamicTable::DynamicTable(ByteView bytes, const std::vector<Segment>& segments,
                           std::string_view file)
    : bytes_(bytes), segments_(segments), file_(file) {
  auto segment = std::find_if(segments.begin(), segments.end(),
                              [](const Segment& s) { return s.type == SegmentType::Dynamic; });
  if (segment == segments.end()) {
    return;
  }
  ByteView content = bytes.subspan(segment->offset.value, segment->file_size);
  for (uint64_t at = 0; content.size() - at >= sizeof(Elf64_Dyn); at += sizeof(Elf64_Dyn)) {
    auto entry = load<Elf64_Dyn>(content, at);
    if (entry.d_tag == DT_NULL) {
      break;
    }
    entries_.push_back(entry);
  }
}

std::optional<uint64_t> DynamicTable::find(int64_t tag) const {
  for (const Elf64_Dyn& entry : entries_) {
    if (entry.d_tag == tag) {
      return entry.d_un.d_val;
    }
  }
  return std::nullopt;
}

std::vector<uint64_t> DynamicTable::all(int64_t tag) const {
  std::vector<uint64_t> out;
  for (const Elf64_Dyn& entry : entries_) {
    if (entry.d_tag == tag) {
      out.push_back(entry.d_un.d_val);
    }
  }
  return out;
}

ByteView DynamicTable::at(uint64_t address, std::optional<uint64_t> size,
                          std::string_view what) const {
  for (const Segment& s : segments_) {
    if (s.type != SegmentType::Load || address < s.address.value ||
        address - s.address.value >= s.file_size) {
      continue;
    }
    uint64_t inside = address - s.address.value;
    uint64_t available = s.file_size - inside;
    if (size.value_or(0) > available) {
      break;
    }
    return bytes_.subspan(s.offset.value + inside, size.value_or(available));
  }
  throw bad_file(file_,
                 fmt::format("{} at address {:#x} is not in a loaded segment", what, address));
}

StringTable DynamicTable::strings() const {
  auto address = find(DT_STRTAB), size = find(DT_STRSZ);
  if (!address || !size) {
    return {ByteView{}, file_, "DT_STRTAB"};
  }
  return {at(*address, *size, "DT_STRTAB"), file_, "DT_STRTAB"};
}

ByteView DynamicTable::symbols() const {
  auto table = find(DT_SYMTAB);
  if (!table) {
    return {};
  }
  uint64_t count = 0;
  if (auto hash = find(DT_HASH)) {
    count = load<uint32_t>(at(*hash, 8, "DT_HASH"), 4);
  } else if (auto gnu = find(DT_GNU_HASH)) {
    ByteView all = at(*gnu, std::nullopt, "DT_GNU_HASH");
    uint64_t buckets = load<uint32_t>(all, 0), first = load<uint32_t>(all, 4);
    uint64_t chains = 16 + uint64_t{load<uint32_t>(all, 8)} * 8 + buckets * 4;
    ByteView bucket = file_part(all, chains - buckets * 4, buckets * 4, file_, "DT_GNU_HASH");
    uint64_t last = 0;
    for (uint64_t i = 0; i < buckets; ++i) {
      last = std::max<uint64_t>(last, load<uint32_t>(bucket, i * 4));
    }
    count = first;
    if (last >= first && last != 0) {
      while ((load<uint32_t>(all, chains + (last - first) * 4) & 1) == 0) {
        ++last;
      }
      count = last + 1;
    }
  }
  return at(*table, count * sizeof(Elf64_Sym), "DT_SYMTAB");
}

void DynamicTable::set_versions(std::vector<Symbol>& symbols) const {
  auto versym = find(DT_VERSYM);
  if (!versym || symbols.empty()) {
    return;
  }
  ByteView numbers = at(*versym, symbols.size() * sizeof(Elf64_Versym), "DT_VERSYM");
  std::unordered_map<uint16_t, std::string> names;
  StringTable table = strings();
  uint64_t budget = bytes_.size() / sizeof(Elf64_Vernaux) + 1;
  // One name is copied into many symbols.
  auto add_name = [&](uint16_t number, std::string_view name) {
    if (name.size() > 512) {
      throw bad_file(file_, "a version name is implausibly long");
    }
    names.emplace(number & 0x7fff, name);
  };
  auto count_record = [&] {
    if (budget-- == 0) {
      throw bad_file(file_, "the version records are a circle");
    }
  };
  if (auto need = find(DT_VERNEED)) {
    ByteView all = at(*need, std::nullopt, "DT_VERNEED");
    for (uint64_t i = 0, record = 0; i < find(DT_VERNEEDNUM).value_or(0); ++i) {
      count_record();
      auto head = load<Elf64_Verneed>(all, record);
      for (uint64_t k = 0, aux = record + head.vn_aux; k < head.vn_cnt; ++k) {
        count_record();
        auto entry = load<Elf64_Vernaux>(all, aux);
        add_name(entry.vna_other, table.text(entry.vna_name));
        if (entry.vna_next == 0) {
          break;
        }
        aux += entry.vna_next;
      }
      if (head.vn_next == 0) {
        break;
      }
      record += head.vn_next;
    }
  }
  if (auto defined = find(DT_VERDEF)) {
    ByteView all = at(*defined, std::nullopt, "DT_VERDEF");
    for (uint64_t i = 0, record = 0; i < find(DT_VERDEFNUM).value_or(0); ++i) {
      count_record();
      auto head = load<Elf64_Verdef>(all, record);
      if ((head.vd_flags & VER_FLG_BASE) == 0 && head.vd_cnt > 0) {
        auto entry = load<Elf64_Verdaux>(all, record + head.vd_aux);
        add_name(head.vd_ndx, table.text(entry.vda_name));
      }
      if (head.vd_next == 0) {
        break;
      }
      record += head.vd_next;
    }
  }
  for (size_t i = 0; i < symbols.size(); ++i) {
    auto number = load<Elf64_Versym>(numbers, i * sizeof(Elf64_Versym));
    auto name = names.find(number & 0x7fff);
    symbols[i].default_version = (number & 0x8000) == 0;
    if ((number & 0x7fff) > VER_NDX_GLOBAL && name != names.end()) {
      symbols[i].version = name->second;
    }
  }
}

}  // namespace qp::elf
