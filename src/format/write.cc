// Writes a patch file.
//
// The file is one ELF object with two symbol tables. The table of the patch (symtab.dst) is the
// ELF symbol table that tools find by its type. The table of the running program (symtab.src) says
// where things are there: symbols that the patch replaces or refers to, with the addresses that
// match has bound them to. diffdata ties the two together: one relocation entry per place of the
// patch that leads into the program. The same places are also in the ordinary relocation tables,
// against undefined symbols, so that `objdump -dr` shows names; the reader compares the two views.
//
// Why symtab.src has the type SHT_DYNSYM: ELF knows two tables that tools print, and only one may
// be SHT_SYMTAB (binutils warns of a second one: bfd/elf.c, "multiple symbol tables detected"). The
// symbols that a file shares with its surroundings are what SHT_DYNSYM is for, readelf -s prints it
// beside the other, and a relocation table may name it in its sh_link, as diffdata does. Since one
// diffdata serves all sections, its sh_info names .qpatch.atoms, which stands for them all.
//
// One symbol of the program is one entry, whoever refers to it: the new code, or the original code
// that is kept for the proof. What an entry can't say (import or not, evidence, stub, slot, scope)
// is in .qpatch.bindings, and so is which symbol of which graph means which entry.
//
// The bytes are deterministic, since the id of a patch is their hash.

#include <algorithm>
#include <map>
#include <tuple>

#include <fmt/format.h>

#include "base/error.h"
#include "format/check.h"
#include "format/encoding.h"
#include "format/file.h"
#include "format/graph.h"
#include "format/layout.h"

namespace qp::format {
namespace {

using elf::AtomGraph;
using elf::AtomSymbol;
using elf::Binding;
using elf::BindingKind;
using elf::OutSection;
using elf::OutSymbol;
using elf::SectionType;
using elf::SymbolBind;
using elf::SymbolType;

// The table of the running program's symbols, without duplicates, locals first.
class SourceTable {
 public:
  SourceTable(const Patch& patch) {
    fresh_ = add(patch.fresh, patch.fresh_bindings);
    old_ = add(patch.old, patch.old_bindings);
    sort_locals_first();
  }
  const std::vector<SourceSymbol>& entries() const { return entries_; }
  const SourceNumbers& fresh() const { return fresh_; }
  const SourceNumbers& old() const { return old_; }
  uint32_t first_global() const { return first_global_; }

 private:
  using Key = std::tuple<std::string, std::string, std::string, SymbolBind, BindingKind,
                         elf::Evidence, uint64_t, uint64_t, uint64_t>;

  static SourceSymbol make_entry(const AtomSymbol& s, const Binding& b) {
    SourceSymbol e;
    e.binding = b;
    e.file = s.file;
    OutSymbol& o = e.symbol;
    o.name =
        b.kind == BindingKind::Import && !b.version.empty() ? s.name + "@" + b.version : s.name;
    o.value = b.kind == BindingKind::Address ? b.address.value
              : b.kind == BindingKind::TpOffset || b.kind == BindingKind::ModuleOffset
                  ? static_cast<uint64_t>(b.tp_offset)
                  : 0;
    o.size = s.size;
    o.type = s.type;
    o.bind = s.bind;
    o.visibility = s.visibility;
    o.section = b.kind == BindingKind::Import ? elf::kUndefined : elf::kAbsolute;
    return e;
  }

  SourceNumbers add(const AtomGraph& graph, const std::vector<Binding>& bindings) {
    SourceNumbers numbers(graph.symbols.size());
    for (size_t i = 0; i < graph.symbols.size(); ++i) {
      const Binding& b = bindings[i];
      if (b.kind == BindingKind::Unbound) {
        continue;
      }
      SourceSymbol e = make_entry(graph.symbols[i], b);
      Key key{e.symbol.name,   b.kind == BindingKind::Import ? b.version : "",
              e.file,          e.symbol.bind,
              b.kind,          b.evidence,
              e.symbol.value,  b.stub.value,
              b.got_slot.value};
      auto [it, is_new] = known_.try_emplace(key, static_cast<uint32_t>(entries_.size()));
      if (is_new) {
        entries_.push_back(std::move(e));
      } else {
        // A reference knows less about a symbol than its definition does.
        OutSymbol& o = entries_[it->second].symbol;
        o.size = std::max(o.size, e.symbol.size);
        o.type = std::max(o.type, e.symbol.type);
      }
      numbers[i] = it->second + 1;
    }
    return numbers;
  }

  void sort_locals_first() {
    std::vector<uint32_t> order(entries_.size()), number(entries_.size() + 1);
    for (uint32_t i = 0; i < order.size(); ++i) {
      order[i] = i;
    }
    auto first = std::stable_partition(order.begin(), order.end(), [&](uint32_t i) {
      return entries_[i].symbol.bind == SymbolBind::Local;
    });
    first_global_ = static_cast<uint32_t>(first - order.begin()) + 1;
    std::vector<SourceSymbol> sorted;
    for (uint32_t i : order) {
      sorted.push_back(std::move(entries_[i]));
      number[i + 1] = static_cast<uint32_t>(sorted.size());
    }
    entries_ = std::move(sorted);
    for (SourceNumbers* numbers : {&fresh_, &old_}) {
      for (uint32_t& n : *numbers) {
        n = number[n];
      }
    }
  }

  std::vector<SourceSymbol> entries_;
  std::map<Key, uint32_t> known_;
  SourceNumbers fresh_, old_;
  uint32_t first_global_ = 1;
};

Bytes encode_bindings(const SourceTable& table) {
  Encoder out;
  out.number(table.entries().size());
  for (const SourceSymbol& e : table.entries()) {
    out.byte(static_cast<uint8_t>(e.binding.kind));
    out.byte(static_cast<uint8_t>(e.binding.evidence));
    out.text(e.file);
    out.text(e.binding.kind == BindingKind::Import ? e.binding.version : "");
    out.number(e.binding.stub.value);
    out.number(e.binding.got_slot.value);
  }
  for (const SourceNumbers* numbers : {&table.fresh(), &table.old()}) {
    out.number(numbers->size());
    for (uint32_t n : *numbers) {
      out.number(n);
    }
  }
  return out.finish();
}

OutSection plain_section(const char* name, Bytes content, uint64_t alignment = 1) {
  OutSection s;
  s.name = name;
  s.alignment = alignment;
  s.content = std::move(content);
  return s;
}

void add_source_table(const Patch& patch, elf::OutFile& out) {
  auto atoms_index = static_cast<uint32_t>(out.sections.size());
  QP_ASSERT(out.sections.back().name == kAtomsSection);
  SourceTable table(patch);
  std::vector<OutSymbol> symbols;
  for (const SourceSymbol& e : table.entries()) {
    symbols.push_back(e.symbol);
  }
  elf::RawSymtab raw = elf::encode_symtab(symbols);
  auto symtab_index = static_cast<uint32_t>(out.sections.size()) + 1;
  OutSection symtab = plain_section(kSymtabSrc, std::move(raw.symbols), 8);
  symtab.type = SectionType::DynSym;
  symtab.entry_size = 24;
  symtab.link = symtab_index + 1;
  symtab.info = table.first_global();
  out.sections.push_back(std::move(symtab));
  OutSection strtab = plain_section(kStrtabSrc, std::move(raw.strings));
  strtab.type = SectionType::StrTab;
  out.sections.push_back(std::move(strtab));
  out.sections.push_back(plain_section(kBindings, encode_bindings(table)));
  OutSection diffdata =
      plain_section(kDiffData, elf::encode_rela(make_diffdata(patch.fresh, table.fresh())), 8);
  diffdata.type = SectionType::Rela;
  diffdata.entry_size = 24;
  diffdata.link = symtab_index;
  diffdata.info = atoms_index;
  out.sections.push_back(std::move(diffdata));
}

}  // namespace

std::vector<elf::Relocation> make_diffdata(const AtomGraph& fresh, const SourceNumbers& numbers) {
  std::vector<elf::Relocation> out;
  for (uint64_t i = 0; i < fresh.atoms.size(); ++i) {
    for (const elf::Ref& r : fresh.atoms[i].refs) {
      if (numbers[r.symbol] != 0) {
        out.push_back({((i + 1) << 32) | r.at, r.type, numbers[r.symbol], r.addend});
      }
    }
  }
  return out;
}

elf::OutFile make_file(const Patch& patch) {
  try {
    check_patch(patch, "the patch");
  } catch (const Error& e) {
    throw Bug(fmt::format("an inconsistent patch was to be written: {}", e.what()));
  }
  GraphParts parts = encode_graph(patch.fresh);
  elf::OutFile out;
  out.sections = std::move(parts.sections);
  out.symbols = std::move(parts.symbols);
  out.symtab_name = kSymtabDst;
  out.strtab_name = kStrtabDst;
  out.sections.push_back(std::move(parts.rest));
  add_source_table(patch, out);
  out.sections.push_back(plain_section(kOld, write_graph(patch.old), 8));
  out.sections.push_back(plain_section(kMeta, write_meta(patch)));
  return out;
}

Bytes write_patch(const Patch& patch) {
  return elf::write_file(make_file(patch));
}

std::string Patch::id() const {
  return content_hash(write_patch(*this)).substr(0, 8);
}

}  // namespace qp::format
