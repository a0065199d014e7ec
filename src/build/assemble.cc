// The glue between diff, match and patch file: graphs of several objects become one graph of new
// code and one of old code, and every reference ends at the right place.
//
// Where a reference of included code leads:
//   1. to an included atom that is new (function, variable, string, .cold piece): to the atom;
//   2. to the *entry* of a function that is replaced: to its old entry in the target, where the
//      detour is. So function pointers taken by new and by old code are equal, and after a revert
//      nothing of the old program holds an address of the image;
//   3. to a place *inside* of a replaced function (its .cold piece jumps back, its jump tables,
//      label addresses): to the new atom, since the old one's inside is another;
//   4. to something that stays in the target: to the binding of the original's symbol;
//   5. the call of __tls_get_addr for a thread-local variable that the patch adds: to the runtime
//      (runtime.h), which the patch then brings along;
//   6. to a name that the original object never mentioned: to a new global of another unit in this
//      patch, or to a function of the runtime that patches call; else to the one global of the target
//      that has this name; else it is an import, for which the target may have a PLT stub or a GOT
//      slot already.
//
// 2 and 3 differ by the distance from the symbol only, and what that is depends on who refers
// (psABI 4.4.1: S + A − P): in text a PC-relative addend holds −4 to the end of the instruction; in
// a jump table it holds the place of the entry in the table; else it is the distance itself.
//
// A new global whose name the target has already is refused: it was moved from a unit that is not
// in the patch, and two functions (or two copies of a variable) would be in use side by side.

#include "build/assemble.h"

#include <algorithm>
#include <map>
#include <set>

#include <fmt/format.h>

#include "base/error.h"
#include "build/merger.h"
#include "build/runtime.h"
#include "build/variables.h"
#include "link/image.h"
#include "match/candidates.h"
#include "match/way_of_target.h"

namespace qp::build {
namespace {

using elf::Atom;
using elf::AtomGraph;
using elf::AtomId;
using elf::AtomKind;
using elf::AtomSymbol;
using elf::AtomSymbolId;
using elf::Binding;
using elf::BindingKind;
using elf::Ref;
using elf::Storage;
using objdiff::Diff;
using objdiff::Fate;
using objdiff::Unit;

// Distance of the place that `ref` leads to from the ref's symbol. 0 for GOT references: what
// counts there is the content of the slot.
int64_t distance(const Atom& from, const Ref& ref) {
  const elf::RelocTraits* traits = elf::find_traits(ref.type);
  QP_ASSERT(traits != nullptr);
  if (traits->via_got) {
    return 0;
  }
  if (!traits->pc_relative) {
    return ref.addend;
  }
  if (from.storage == Storage::Text) {
    return ref.addend + traits->width;
  }
  return from.kind == AtomKind::JumpTable ? ref.addend - static_cast<int64_t>(ref.at) : ref.addend;
}

// The globals of the target of that name, one per address.
std::vector<const match::MapEntry*> global_candidates(const match::SymbolMap& symbols,
                                                      const std::string& name) {
  std::vector<const match::MapEntry*> out;
  for (const match::MapEntry* entry : symbols.named(name)) {
    bool own = entry->source != match::Source::Plt;
    bool known = std::any_of(out.begin(), out.end(),
                             [&](auto* other) { return other->address == entry->address; });
    if (own && entry->bind != elf::SymbolBind::Local && !known) {
      out.push_back(entry);
    }
  }
  return out;
}

class Assembler {
 public:
  Assembler(const std::vector<MatchedUnit>& units, const match::SymbolMap& symbols,
            std::optional<int64_t> tls_block_end, const KnownGlobals& known, Report& report)
      : units_(units),
        symbols_(symbols),
        tls_block_end_(tls_block_end),
        known_(known),
        report_(report) {}

  format::Patch assemble() {
    std::vector<Mapped> fresh(units_.size());
    for (size_t i = 0; i < units_.size(); ++i) {
      add_fresh(units_[i], fresh[i]);
    }
    for (size_t i = 0; i < units_.size(); ++i) {
      bind_fresh(units_[i], fresh[i]);
      add_old(units_[i], fresh[i]);
    }
    add_runtime(
        fresh_, symbols_, [this](const AtomSymbol& symbol) { return bind_by_name(symbol); },
        report_);
    std::sort(patch_.replaced.begin(), patch_.replaced.end(),
              [](auto& a, auto& b) { return a.entry < b.entry; });
    for (size_t i = 1; i < patch_.replaced.size(); ++i) {
      if (patch_.replaced[i].entry == patch_.replaced[i - 1].entry) {
        report_.refuse("symbol-ambiguous", patch_.replaced[i].name,
                       fmt::format("it has the same code in the target as {}, at {:#x}: the linker "
                                   "folded them, so they can't be replaced apart",
                                   patch_.replaced[i - 1].name, patch_.replaced[i].entry.value));
      }
    }
    if (units_.size() == 1) {
      fresh_.graph.source = units_[0].diff->patched.source;
      old_.graph.source = units_[0].diff->original.source;
    }
    for (size_t i = 0; i < units_.size(); ++i) {
      add_hooks(*units_[i].diff, fresh[i]);
    }
    patch_.variables = find_variables(fresh_.graph);
    patch_.fresh = std::move(fresh_.graph);
    patch_.fresh_bindings = std::move(fresh_.bindings);
    patch_.old = std::move(old_.graph);
    patch_.old_bindings = std::move(old_.bindings);
    return std::move(patch_);
  }

 private:
  struct Mapped {
    std::map<AtomId, AtomId> atoms;                // patched → fresh
    std::map<AtomSymbolId, AtomSymbolId> symbols;  // patched → fresh, of included atoms
    std::map<AtomId, size_t> entries;              // patched function → index in matched.replaced
    // patched → fresh, of everything else; a thread-local variable once per kind of reference
    std::map<std::pair<AtomSymbolId, elf::RelocType>, AtomSymbolId> externals;
  };

  void add_fresh(const MatchedUnit& unit, Mapped& mapped) {
    const Diff& diff = *unit.diff;
    std::vector<AtomId> ids;
    for (const objdiff::Inclusion& inclusion : diff.included) {
      ids.push_back(inclusion.patched);
    }
    std::sort(ids.begin(), ids.end());
    fresh_.add_atoms(diff.patched, ids, mapped.atoms, mapped.symbols);
    for (size_t i = 0; i < unit.wanted.units.size() && i < unit.matched.replaced.size(); ++i) {
      mapped.entries[*diff.units[unit.wanted.units[i]].patched] = i;
    }
    for (auto [patched, id] : mapped.symbols) {
      const AtomSymbol& symbol = diff.patched.symbols[patched];
      bool is_new = !diff.original_of[*symbol.atom];
      if (!is_new || symbol.bind != elf::SymbolBind::Global || symbol.anonymous) {
        continue;
      }
      if (!new_globals_.try_emplace(symbol.name, id).second) {
        report_.refuse(
            "definition-conflict", symbol.name,
            "two units of the patch define it anew; the second is " + diff.patched.source);
      }
      auto present = global_candidates(symbols_, symbol.name);
      if (!present.empty()) {
        report_.refuse("definition-conflict", symbol.name,
                       fmt::format("{} defines it anew, and the target has one at {:#x}",
                                   diff.patched.source, present[0]->address.value));
      }
    }
  }

  void add_hooks(const Diff& diff, const Mapped& mapped) {
    for (const objdiff::Diff::Hook& hook : diff.hooks) {
      const AtomSymbol& symbol = diff.patched.symbol_of(hook.function);
      patch_.hooks.push_back({hook.name, symbol.bind == elf::SymbolBind::Local ? symbol.file : "",
                              static_cast<format::Hook::When>(hook.when),
                              static_cast<format::Hook::Others>(hook.others),
                              mapped.atoms.at(hook.function)});
    }
  }

  void bind_fresh(const MatchedUnit& unit, Mapped& mapped) {
    const Diff& diff = *unit.diff;
    std::map<AtomSymbolId, std::optional<AtomSymbolId>> bound;
    for (const Diff::Bound& b : diff.bound) {
      bound[b.patched] = b.original;
    }
    for (auto [patched, id] : mapped.atoms) {
      fresh_.map_refs(id, [&](const Ref& ref, const Atom& atom) {
        const AtomSymbol& symbol = diff.patched.symbols[ref.symbol];
        if (symbol.name == "__tls_get_addr" && !symbol.atom &&
            finds_new_thread_local(fresh_.graph, atom, ref)) {
          return fresh_.expect(link::kTlsGetAddr);
        }
        auto inside = mapped.symbols.find(ref.symbol);
        if (inside != mapped.symbols.end()) {
          auto entry = mapped.entries.find(*symbol.atom);
          bool at_entry = symbol.offset == 0 && distance(atom, ref) == 0;
          if (entry == mapped.entries.end() || !at_entry || atom.kind == AtomKind::JumpTable) {
            if (ref.type == elf::RelocType::GOTPC32_TLSDESC) {
              fresh_.expect(link::kTlsDescriptor);
            }
            return inside->second;
          }
          Binding binding;
          binding.kind = BindingKind::Address;
          binding.evidence = elf::Evidence::Proof;
          binding.address = unit.matched.replaced[entry->second].entry;
          return fresh_.add_external(
              symbol, match::as_the_target_does(std::move(binding), symbol, ref.type, symbols_));
        }
        bool tls = elf::find_traits(ref.type)->tls;
        auto [known, is_new] = mapped.externals.try_emplace(
            std::pair(ref.symbol, tls ? ref.type : elf::RelocType::None), 0);
        if (is_new) {
          auto original = bound.find(ref.symbol);
          bool mentioned = original != bound.end() && original->second;
          auto of_patch = new_globals_.find(symbol.name);
          if (!mentioned && !symbol.atom && of_patch != new_globals_.end()) {
            if (ref.type == elf::RelocType::GOTPC32_TLSDESC) {
              fresh_.expect(link::kTlsDescriptor);
            }
            return known->second = of_patch->second;
          }
          if (!mentioned && !symbol.atom && is_called_by_patches(symbol.name)) {
            return known->second = fresh_.expect(symbol.name);
          }
          Binding binding =
              mentioned ? bind_as_original(unit, symbol, *original->second) : bind_by_name(symbol);
          known->second = fresh_.add_external(
              symbol, match::as_the_target_does(std::move(binding), symbol, ref.type, symbols_));
        }
        return known->second;
      });
    }
  }

  Binding bind_as_original(const MatchedUnit& unit, const AtomSymbol& symbol,
                           AtomSymbolId original) {
    Binding binding;
    if (original < unit.matched.bindings.size()) {
      binding = unit.matched.bindings[original];
    }
    if (binding.kind == BindingKind::Unbound && report_.clean()) {
      report_.refuse(
          "symbol-missing", symbol.name,
          fmt::format("new code of {} refers to it; neither the target's symbols nor its "
                      "proven code tell where it is",
                      unit.diff->patched.source));
    }
    return binding;
  }

  Binding bind_by_name(const AtomSymbol& symbol) {
    if (symbol.atom) {
      // The diff neither included nor bound what an included atom refers to.
      report_.refuse("diff-unexplained", symbol.name,
                     "new code refers to it, and it is neither in the patch nor in the target");
      return {};
    }
    if (auto it = known_.find(symbol.name); it != known_.end()) {
      return it->second;
    }
    Binding binding;
    binding.evidence = elf::Evidence::SymbolTable;
    auto candidates = global_candidates(symbols_, symbol.name);
    const match::ImportEntry* import = symbols_.import_named(symbol.name);
    if (candidates.size() > 1) {
      report_.refuse("symbol-ambiguous", symbol.name,
                     fmt::format("the target has globals of that name at {:#x} and {:#x}",
                                 candidates[0]->address.value, candidates[1]->address.value));
    } else if (candidates.size() == 1 && candidates[0]->type == elf::SymbolType::GnuIfunc) {
      // Calls go to the stub, which jumps to what the resolver has chosen.
      const auto& imports = symbols_.imports();
      auto own = std::find_if(imports.begin(), imports.end(), [&](const match::ImportEntry& i) {
        return i.ifunc && i.own == candidates[0]->address && i.stub.value != 0;
      });
      if (own == imports.end()) {
        report_.refuse("import-ifunc", symbol.name,
                       "the target defines it as an indirect function and never calls it");
        return {};
      }
      binding.kind = BindingKind::Address;
      binding.address = own->stub;
    } else if (candidates.size() == 1 && candidates[0]->type == elf::SymbolType::Tls) {
      bool library = symbols_.is_library();
      binding.kind = library ? BindingKind::ModuleOffset : BindingKind::TpOffset;
      binding.tp_offset = static_cast<int64_t>(candidates[0]->address.value) +
                          (library ? 0 : tls_block_end_.value_or(0));
    } else if (candidates.size() == 1) {
      binding.kind = BindingKind::Address;
      binding.address = candidates[0]->address;
    } else if (match::is_nothing(symbol, symbols_)) {
      binding.kind = BindingKind::Address;
    } else if (symbols_.is_static() && symbol.bind != elf::SymbolBind::Weak &&
               symbol.name != "__tls_get_addr") {  // link rewrites the calls of it
      report_.refuse("symbol-missing", symbol.name,
                     "the target is linked statically and does not have it");
    } else {
      binding.kind = BindingKind::Import;
      binding.version = symbol.version;
      if (import != nullptr) {
        binding.version = import->version;
        binding.stub = import->stub;
        binding.got_slot = import->slot;
      } else {
        binding.evidence = elf::Evidence::None;
        if (!symbols_.has_symtab()) {
          report_.warn(fmt::format(
              "{} is taken for a function of another module: the target has no names, and no unit "
              "of the compile database that was looked at defines it",
              symbol.name));
        }
      }
    }
    return binding;
  }

  void add_old(const MatchedUnit& unit, const Mapped& fresh) {
    const Diff& diff = *unit.diff;
    std::vector<AtomId> ids = old_closure(unit);
    std::map<AtomId, AtomId> atoms;
    std::map<AtomSymbolId, AtomSymbolId> symbols;
    auto binding_of = [&](AtomSymbolId id) {
      return id < unit.matched.bindings.size() ? unit.matched.bindings[id] : Binding{};
    };
    old_.add_atoms(diff.original, ids, atoms, symbols);
    for (auto [original, id] : symbols) {
      old_.bindings[id] = binding_of(original);
    }
    for (AtomId id : ids) {
      old_.map_refs(atoms.at(id), [&](const Ref& ref, const Atom&) {
        auto inside = symbols.find(ref.symbol);
        return inside != symbols.end()
                   ? inside->second
                   : old_.add_external(diff.original.symbols[ref.symbol], binding_of(ref.symbol));
      });
    }
    for (size_t i = 0; i < unit.matched.replaced.size(); ++i) {
      const match::ReplacedUnit& replaced = unit.matched.replaced[i];
      const Unit& function = diff.units[unit.wanted.units[i]];
      const AtomSymbol& symbol = diff.original.symbol_of(*function.original);
      std::string why = function.first_difference ? function.first_difference->what : "";
      patch_.replaced.push_back({symbol.name,
                                 symbol.bind == elf::SymbolBind::Local ? symbol.file : "",
                                 atoms.at(*function.original), fresh.atoms.at(*function.patched),
                                 replaced.entry, replaced.ranges, why});
    }
  }

  // The original functions that are replaced and their callers, which another build of the target
  // has to have as well; for a target without names all functions of the unit, since they confirm
  // each other. With their pieces, and the read-only data that the proof compares by content.
  std::vector<AtomId> old_closure(const MatchedUnit& unit) const {
    const Diff& diff = *unit.diff;
    std::set<AtomId> seen;
    std::vector<AtomId> work;
    auto add = [&](AtomId id) {
      if (seen.insert(id).second) {
        work.push_back(id);
      }
    };
    for (size_t index : unit.wanted.units) {
      const Unit& function = diff.units[index];
      add(*function.original);
      std::for_each(function.original_pieces.begin(), function.original_pieces.end(), add);
    }
    const auto calls_replaced = [&](const Atom& atom) {
      return std::any_of(atom.refs.begin(), atom.refs.end(), [&](const Ref& ref) {
        const auto to = diff.original.symbols[ref.symbol].atom;
        return to && std::find(unit.wanted.functions.begin(), unit.wanted.functions.end(), *to) !=
                         unit.wanted.functions.end();
      });
    };
    for (AtomId id = 0; id < diff.original.atoms.size(); ++id) {
      const Atom& atom = diff.original.atoms[id];
      if (atom.kind == AtomKind::Function && (!symbols_.has_symtab() || calls_replaced(atom))) {
        add(atom.parent.value_or(id));
      }
    }
    for (AtomId id = 0; id < diff.original.atoms.size(); ++id) {
      const Atom& atom = diff.original.atoms[id];
      if (atom.parent && seen.count(*atom.parent) != 0) {
        add(id);
      }
    }
    auto follow = [&](const Ref& ref) {
      const AtomSymbol& symbol = diff.original.symbols[ref.symbol];
      if (!symbol.atom) {
        return;
      }
      const Atom& atom = diff.original.atoms[*symbol.atom];
      if (atom.storage == Storage::ReadOnly || atom.storage == Storage::RelRo) {
        add(*symbol.atom);
      }
    };
    while (!work.empty()) {
      AtomId id = work.back();
      work.pop_back();
      const Atom& atom = diff.original.atoms[id];
      std::for_each(atom.refs.begin(), atom.refs.end(), follow);
      for (const elf::FrameEntry& frame : atom.frames) {
        if (frame.lsda) {
          follow(*frame.lsda);
        }
      }
    }
    return {seen.begin(), seen.end()};
  }

  const std::vector<MatchedUnit>& units_;
  const match::SymbolMap& symbols_;
  std::optional<int64_t> tls_block_end_;
  const KnownGlobals& known_;
  Report& report_;
  format::Patch patch_;
  Merger fresh_, old_;
  std::map<std::string, AtomSymbolId> new_globals_;
};

}  // namespace

Wanted wanted_of(const Diff& diff) {
  Wanted out;
  for (size_t i = 0; i < diff.units.size(); ++i) {
    const Unit& unit = diff.units[i];
    if (unit.fate == Fate::Changed) {
      QP_ASSERT(unit.original && unit.patched);
      out.units.push_back(i);
      out.functions.push_back(*unit.original);
    }
  }
  std::set<AtomSymbolId> symbols;
  for (const Diff::Bound& bound : diff.bound) {
    if (bound.original) {
      symbols.insert(*bound.original);
    }
  }
  out.symbols.assign(symbols.begin(), symbols.end());
  return out;
}

format::Patch assemble(const std::vector<MatchedUnit>& units, const match::SymbolMap& symbols,
                       std::optional<int64_t> tls_block_end, const KnownGlobals& known,
                       Report& report) {
  return Assembler(units, symbols, tls_block_end, known, report).assemble();
}

}  // namespace qp::build
