// Who a file is and what it needs: build-id, names, dynamic relocations, compiler.
//
// The build-id names a target in a patch file and finds it in processes, so it is read the same way
// from a file and from live memory: as notes. Notes are headers of three words and two strings,
// each padded to four bytes; PT_NOTE segments with alignment 8 exist (.note.gnu.property), whose
// content has only sizes for which four-byte padding gives the same positions. Notes of a process
// can be anything, so a malformed note ends the search and is no error.
//
// The compiler is in DW_AT_producer of each compile unit. Only the first units are looked at: one
// program rarely has more than a few compilers, and a large one has 10,000 units.

#include <dwarf.h>
#include <elf.h>
#include <elfutils/libdw.h>

#include <algorithm>

#include <fmt/format.h>

#include "base/error.h"
#include "elf/debug_info.h"
#include "elf/object_writer.h"
#include "elf/tables.h"

namespace qp::elf {
namespace {

constexpr int kUnitsLookedAt = 64;

void add_once(std::vector<std::string>& list, std::string_view text) {
  if (!text.empty() && std::find(list.begin(), list.end(), text) == list.end()) {
    list.emplace_back(text);
  }
}

std::vector<std::string> dwarf_producers(const File& file) {
  std::vector<std::string> out;
  int looked_at = 0;
  DebugInfo(file).each_unit([&](Dwarf_Die* unit) {
    Dwarf_Attribute attribute;
    const char* text = dwarf_formstring(dwarf_attr(unit, DW_AT_producer, &attribute));
    add_once(out, text != nullptr ? text : "");
    return ++looked_at < kUnitsLookedAt;
  });
  return out;
}

}  // namespace

std::optional<std::string> find_build_id(ByteView notes) {
  uint64_t at = 0;
  while (notes.size() - at >= sizeof(Elf64_Nhdr)) {
    auto head = load<Elf64_Nhdr>(notes, at);
    uint64_t name = at + sizeof(Elf64_Nhdr);
    uint64_t description = name + align_up(head.n_namesz, 4);
    if (description > notes.size() || head.n_descsz > notes.size() - description) {
      return std::nullopt;
    }
    // 64 bytes are more than any --build-id style makes.
    if (head.n_type == NT_GNU_BUILD_ID && head.n_namesz == 4 && head.n_descsz > 0 &&
        head.n_descsz <= 64 && as_text(notes.subspan(name, 4)) == std::string_view("GNU\0", 4)) {
      std::string text;
      for (std::byte b : notes.subspan(description, head.n_descsz)) {
        text += fmt::format("{:02x}", static_cast<unsigned>(b));
      }
      return text;
    }
    at = std::min<uint64_t>(description + align_up(head.n_descsz, 4), notes.size());
  }
  return std::nullopt;
}

std::optional<std::string> File::build_id() const {
  for (const Segment& s : segments_) {
    if (s.type == SegmentType::Note) {
      if (auto id = find_build_id(ByteView(bytes_).subspan(s.offset.value, s.file_size))) {
        return id;
      }
    }
  }
  for (const Section& s : sections_) {
    if (s.type == SectionType::Note) {
      if (auto id = find_build_id(content(s))) {
        return id;
      }
    }
  }
  return std::nullopt;
}

std::string File::soname() const {
  DynamicTable dynamic(bytes_, segments_, name_);
  auto offset = dynamic.find(DT_SONAME);
  return offset ? std::string(dynamic.strings().text(*offset)) : "";
}

// A PIE says so in DT_FLAGS_1 (binutils, lld and mold set it); one of an older linker has an
// interpreter and no name. A library that can be run (libc.so.6) has both.
bool File::is_library() const {
  DynamicTable dynamic(bytes_, segments_, name_);
  if (type_ != FileType::SharedObject || dynamic.empty() ||
      (dynamic.find(DT_FLAGS_1).value_or(0) & DF_1_PIE) != 0) {
    return false;
  }
  return dynamic.find(DT_SONAME) ||
         std::none_of(segments_.begin(), segments_.end(),
                      [](const Segment& s) { return s.type == SegmentType::Interp; });
}

bool File::is_symbolic() const {
  DynamicTable dynamic(bytes_, segments_, name_);
  return dynamic.find(DT_SYMBOLIC) || (dynamic.find(DT_FLAGS).value_or(0) & DF_SYMBOLIC) != 0;
}

std::vector<std::string> File::needed() const {
  DynamicTable dynamic(bytes_, segments_, name_);
  StringTable strings = dynamic.strings();
  std::vector<std::string> out;
  for (uint64_t offset : dynamic.all(DT_NEEDED)) {
    out.emplace_back(strings.text(offset));
  }
  return out;
}

std::vector<Relocation> File::dynamic_relocations() const {
  std::vector<Relocation> out;
  auto add = [&](ByteView table, std::string_view what) {
    for (const Relocation& r : decode_rela(table, name_)) {
      if (r.symbol != 0 && r.symbol >= dynamic_symbols_.size()) {
        throw bad_file(name_,
                       fmt::format("{} refers to symbol {}, which does not exist", what, r.symbol));
      }
      out.push_back(r);
    }
  };
  DynamicTable dynamic(bytes_, segments_, name_);
  if (!dynamic.empty()) {
    auto table = dynamic.find(DT_RELA), size = dynamic.find(DT_RELASZ);
    auto plt = dynamic.find(DT_JMPREL), plt_size = dynamic.find(DT_PLTRELSZ);
    // DT_RELASZ may count the PLT's relocations if they follow (gABI, "Dynamic Section").
    if (table && size && plt && plt_size && *plt >= *table && *plt < *table + *size) {
      *size = *plt - *table;
    }
    if (table && size && *size != 0) {
      add(dynamic.at(*table, *size, "DT_RELA"), "DT_RELA");
    }
    if (plt && plt_size && *plt_size != 0) {
      add(dynamic.at(*plt, *plt_size, "DT_JMPREL"), "DT_JMPREL");
    }
  } else if (type_ != FileType::Relocatable) {
    // IRELATIVE of a static file, from __rela_iplt_start on: .rela.plt with bfd and gold, .rela.dyn with
    // lld and mold.
    for (const Section& section : sections_) {
      if (section.type == SectionType::Rela && section.has(kAlloc)) {
        add(content(section), section.name);
      }
    }
  }
  return out;
}

std::vector<std::string> File::producers() const {
  std::vector<std::string> out;
  if (find_section(".debug_info") != nullptr || find_section(".zdebug_info") != nullptr) {
    try {
      out = dwarf_producers(*this);
    } catch (const Error&) {
      // .comment tells as well
    }
  }
  const Section* comment = find_section(".comment");
  if (out.empty() && comment != nullptr) {
    std::string_view text = as_text(content(*comment));
    for (size_t at = 0; at < text.size();) {
      size_t end = std::min(text.find('\0', at), text.size());
      add_once(out, text.substr(at, end - at));
      at = end + 1;
    }
  }
  return out;
}

}  // namespace qp::elf
