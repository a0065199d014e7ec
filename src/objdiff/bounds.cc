// Where one thing ends and the next begins in a section.
//
// Named things say it themselves: a symbol has a value and a size. The hard part is what has no
// symbol: the constants, strings, local array initialisers and jump tables that the compiler makes.
// Three sources bound them, best first:
//
//   1. The section's own law. A SHF_MERGE section is a list of strings (cut after each NUL of
//      entsize bytes) or of constants of entsize bytes. The linker relies on it, so we may.
//   2. Local labels (".LC5", ".L4", ".LJTI2_0"), which the assembler keeps with --keep-locals.
//      qpatch build asks for them; they are exact.
//   3. The places that relocations point to. A reference can point into the middle of a table, so
//      this may cut too often. That is harmless: neighbours in such a run travel and are compared
//      together with what is referred to (contents.cc).
//
// Code is cut by function symbols only. Labels without type and size (hand-written assembly) make
// one atom from the first to the next real function, since execution can fall from one to the next.
// Code bytes that no symbol owns and that are not padding become an atom without a name, so that a
// difference in them can't get lost.

#include "objdiff/bounds.h"

#include <algorithm>

#include "base/error.h"
#include "insn/instruction.h"

namespace qp::objdiff {
namespace {

using elf::AtomKind;

bool is_zero(ByteView b) {
  return std::all_of(b.begin(), b.end(), [](std::byte x) { return x == std::byte{0}; });
}

// NOPs, int3 and zero fill between functions.
bool is_code_padding(ByteView b) {
  for (uint64_t at = 0; at < b.size();) {
    if (b[at] == std::byte{0} || b[at] == std::byte{0xcc}) {
      ++at;
      continue;
    }
    auto i = insn::decode(b, at);
    if (!i || !i->is_nop) {
      return false;
    }
    at += i->length;
  }
  return true;
}

// GCC's labels in the table of one function: .LLSDATTD5, .LLSDACSB5, … .LLSDA5 is its start, and the
// only place that anything refers to.
bool is_inside_lsda(const elf::Section& section, std::string_view label) {
  constexpr std::string_view kStart = ".LLSDA";
  return section.name.starts_with(".gcc_except_table") && label.starts_with(kStart) &&
         label.size() > kStart.size() && (label[kStart.size()] < '0' || label[kStart.size()] > '9');
}

struct Named {
  uint64_t start, end;  // end == start: no size
  uint32_t symbol;
  bool code_label;  // no type: a label
};

std::vector<Named> named_symbols(const elf::File& object, const std::vector<uint32_t>& symbols) {
  std::vector<Named> out;
  for (uint32_t index : symbols) {
    const elf::Symbol& s = object.symbols()[index];
    if (s.type == elf::SymbolType::Section || s.type == elf::SymbolType::File ||
        (s.size == 0 && is_private_label(s.name))) {
      continue;
    }
    out.push_back({s.value, s.value + s.size, index, s.type == elf::SymbolType::NoType});
  }
  std::sort(out.begin(), out.end(), [](const Named& a, const Named& b) {
    return std::tie(a.start, b.end, a.symbol) < std::tie(b.start, a.end, b.symbol);
  });
  return out;
}

// Bounds by symbols; a symbol inside another's range is a further name of that atom.
std::vector<Bounds> bounds_by_symbols(const std::vector<Named>& named, uint64_t size, bool code) {
  std::vector<Bounds> out;
  bool open = false;       // the last bounds have no size yet
  bool label_run = false;  // … and began with a code label
  for (const Named& n : named) {
    bool inside = !out.empty() && (open ? n.start == out.back().start ||
                                              (label_run && n.code_label && n.start == n.end)
                                        : n.start < out.back().end);
    if (inside) {
      Bounds& b = out.back();
      b.symbols.push_back(n.symbol);
      if (n.end > b.end) {
        b.end = n.end;
        open = false;
      }
      continue;
    }
    if (open) {
      out.back().end = n.start;
    }
    out.push_back({n.start, n.end, code ? AtomKind::Function : AtomKind::Variable, {n.symbol}});
    open = n.start == n.end;
    label_run = open && code && n.code_label;
  }
  if (open) {
    out.back().end = size;
  }
  return out;
}

// Cuts [start, end) of a mergeable section.
void cut_mergeable(const elf::Section& section, ByteView content, uint64_t start, uint64_t end,
                   std::vector<Bounds>& out) {
  uint64_t unit = std::max<uint64_t>(section.entry_size, 1);
  if (!section.has(elf::kStrings)) {
    for (uint64_t at = start; at < end; at += unit) {
      out.push_back({at, std::min(at + unit, end), AtomKind::Constant, {}});
    }
    return;
  }
  uint64_t from = start;
  for (uint64_t at = start; at + unit <= end; at += unit) {
    if (is_zero(content.subspan(at, unit))) {
      out.push_back({from, at + unit, AtomKind::String, {}});
      from = at + unit;
    }
  }
  if (from < end) {
    out.push_back({from, end, AtomKind::String, {}});
  }
}

}  // namespace

elf::Storage storage_of(const elf::Section& section) {
  using elf::Storage;
  bool bits = section.type != elf::SectionType::NoBits;
  if (section.has(elf::kExec)) {
    return Storage::Text;
  }
  if (section.has(elf::kTls)) {
    return bits ? Storage::TlsData : Storage::TlsBss;
  }
  if (!section.has(elf::kWrite)) {
    return Storage::ReadOnly;
  }
  if (section.name.starts_with(".data.rel.ro") || is_init_section(section.name)) {
    return Storage::RelRo;
  }
  return bits ? Storage::Data : Storage::Bss;
}

bool is_private_label(std::string_view name) {
  return name.starts_with(".L");
}

bool is_hook_section(std::string_view name) {
  return name == ".qpatch.hooks";
}

bool is_init_section(std::string_view name) {
  for (std::string_view prefix :
       {".init_array", ".fini_array", ".preinit_array", ".ctors", ".dtors"}) {
    if (name.starts_with(prefix)) {
      return true;
    }
  }
  return false;
}

std::vector<Bounds> find_bounds(const elf::File& object, const elf::Section& section,
                                const std::vector<uint32_t>& symbols,
                                const std::vector<uint64_t>& targets) {
  const bool code = section.has(elf::kExec);
  const bool bits = section.type != elf::SectionType::NoBits;
  const bool mergeable = section.has(elf::kMerge) && bits;
  ByteView content = object.content(section);
  std::vector<Named> named = named_symbols(object, symbols);
  if (mergeable) {
    // The law of the section is exact; names in it become names of the parts.
    std::vector<Bounds> parts;
    cut_mergeable(section, content, 0, section.size, parts);
    for (const Named& n : named) {
      auto it = std::upper_bound(parts.begin(), parts.end(), n.start,
                                 [](uint64_t at, const Bounds& b) { return at < b.start; });
      if (it != parts.begin() && n.start < std::prev(it)->end) {
        std::prev(it)->symbols.push_back(n.symbol);
      }
    }
    return parts;
  }
  std::vector<Bounds> sized = bounds_by_symbols(named, section.size, code);
  for (Bounds& b : sized) {
    b.end = std::min(b.end, section.size);
  }

  // Cuts of what has no symbol.
  std::vector<uint64_t> cuts;
  if (!code) {
    for (uint32_t index : symbols) {
      const elf::Symbol& s = object.symbols()[index];
      if (s.type == elf::SymbolType::NoType && is_private_label(s.name) &&
          !is_inside_lsda(section, s.name)) {
        cuts.push_back(s.value);
      }
    }
    // clang gives a private constant a section of its own, named after it.
    bool one_thing = section.name.find("..L") != std::string::npos;
    if (cuts.empty() && !one_thing) {
      cuts = targets;
    }
    std::sort(cuts.begin(), cuts.end());
  }

  std::vector<Bounds> out;
  auto fill = [&](uint64_t from, uint64_t to) {
    if (from >= to) {
      return;
    }
    auto cut = std::lower_bound(cuts.begin(), cuts.end(), from);
    bool has_cut = cut != cuts.end() && *cut < to;
    if (code && is_code_padding(content.subspan(from, to - from))) {
      return;
    }
    if (!code && !sized.empty() && !has_cut && to - from < 64 &&
        (!bits || is_zero(content.subspan(from, to - from)))) {
      return;
    }
    uint64_t at = from;
    AtomKind kind = code ? AtomKind::Function : AtomKind::Anonymous;
    for (; cut != cuts.end() && *cut < to; ++cut) {
      if (*cut > at) {
        out.push_back({at, *cut, kind, {}});
        at = *cut;
      }
    }
    out.push_back({at, to, kind, {}});
  };
  uint64_t at = 0;
  for (Bounds& b : sized) {
    fill(at, b.start);
    at = std::max(at, b.end);
    out.push_back(std::move(b));
  }
  fill(at, section.size);
  return out;
}

}  // namespace qp::objdiff
