// Another build of the same source has the same functions at other addresses, if compiler, flags
// and the functions themselves are the same; which files around them changed does not matter. The
// patch carries the original functions, so what `build` did on the build machine is done once more
// here: find them, prove them, solve what they refer to.
//
// Besides the functions that are replaced their callers in the same unit have to be the same. The
// compiler saw both when it compiled the callers, and may have relied on what the callee leaves
// alone (GCC's -fipa-ra); the object diff has shown that these callers need no change, but only for
// the callers that it saw.
//
// What new code refers to is taken from the proofs where an original function mentions it, and from
// the symbol table where none does. A binding that can be had from neither is a refusal. How new code
// gets there (directly, or as a library's own code does) is decided anew as well.

#include "apply/rebind.h"

#include <algorithm>
#include <map>

#include <fmt/format.h>

#include "match/bind.h"
#include "match/candidates.h"
#include "match/way_of_target.h"

namespace qp::apply {
namespace {

using elf::AtomId;
using elf::AtomKind;
using elf::AtomSymbol;
using elf::AtomSymbolId;
using elf::Binding;
using elf::BindingKind;

// Functions that refer to one that is replaced.
std::vector<AtomId> callers_of(const format::Patch& patch) {
  std::vector<AtomId> callers;
  const auto is_replaced = [&](AtomId id) {
    return std::any_of(patch.replaced.begin(), patch.replaced.end(),
                       [&](const format::Replaced& r) { return r.old_function == id; });
  };
  for (AtomId id = 0; id < patch.old.atoms.size(); ++id) {
    const elf::Atom& atom = patch.old.atoms[id];
    AtomId function = id;
    while (patch.old.atoms[function].parent) {  // format/check.cc: no circles
      function = *patch.old.atoms[function].parent;
    }
    if (atom.kind != AtomKind::Function || is_replaced(function)) {
      continue;
    }
    const bool calls = std::any_of(atom.refs.begin(), atom.refs.end(), [&](const elf::Ref& ref) {
      const auto to = patch.old.symbols[ref.symbol].atom;
      return to && is_replaced(*to);
    });
    if (calls && std::find(callers.begin(), callers.end(), function) == callers.end()) {
      callers.push_back(function);
    }
  }
  return callers;
}

bool is_same_place(const Binding& a, const Binding& b) {
  return a.kind == b.kind && a.address == b.address && a.tp_offset == b.tp_offset;
}

class Rebinder {
 public:
  Rebinder(const format::Patch& patch, const match::Target& target, Report& report)
      : patch_(patch), target_(target), report_(report), out_(patch) {}

  std::optional<format::Patch> rebind(const std::string& build_id) {
    std::vector<AtomId> functions;
    for (const format::Replaced& r : patch_.replaced) {
      functions.push_back(r.old_function);
    }
    const size_t replaced = functions.size();
    const std::vector<AtomId> callers = callers_of(patch_);
    functions.insert(functions.end(), callers.begin(), callers.end());
    match::Matched matched = match::match(patch_.old, functions, {}, target_, report_);
    if (!report_.clean()) {
      return std::nullopt;
    }
    for (size_t i = 0; i < replaced; ++i) {
      entries_.emplace(patch_.replaced[i].entry, matched.replaced[i].entry);
      out_.replaced[i].entry = matched.replaced[i].entry;
      out_.replaced[i].ranges = matched.replaced[i].ranges;
    }
    for (AtomSymbolId id = 0; id < out_.old_bindings.size(); ++id) {
      out_.old_bindings[id] = matched.bindings[id];
    }
    for (AtomSymbolId id = 0; id < out_.fresh_bindings.size(); ++id) {
      if (out_.fresh_bindings[id].kind != BindingKind::Unbound) {
        out_.fresh_bindings[id] = match::as_the_target_does(find(id), patch_.fresh.symbols[id],
                                                            reference_type(id), target_.symbols);
      }
    }
    std::sort(out_.replaced.begin(), out_.replaced.end(),
              [](const auto& a, const auto& b) { return a.entry < b.entry; });
    out_.meta.target_build_id = build_id;
    return report_.clean() ? std::optional(std::move(out_)) : std::nullopt;
  }

 private:
  Binding find(AtomSymbolId id) {
    const AtomSymbol& symbol = patch_.fresh.symbols[id];
    const Binding& before = patch_.fresh_bindings[id];
    if (const auto entry = entries_.find(before.address);
        before.kind == BindingKind::Address && entry != entries_.end()) {
      Binding binding = before;
      binding.address = entry->second;
      return binding;
    }
    // A global has one place, whatever way leads there; a local is known by its place.
    const bool global = symbol.bind != elf::SymbolBind::Local && !symbol.anonymous;
    for (AtomSymbolId old = 0; old < patch_.old_bindings.size(); ++old) {
      const AtomSymbol& known = patch_.old.symbols[old];
      const Binding& now = out_.old_bindings[old];
      const bool fits = global ? known.name == symbol.name && known.bind != elf::SymbolBind::Local
                               : (symbol.anonymous || known.name == symbol.name) &&
                                     is_same_place(patch_.old_bindings[old], before);
      if (fits && now.kind != BindingKind::Unbound) {
        return now;
      }
    }
    return match::bind_by_name(symbol, target_, std::nullopt, report_);
  }

  // Thread-local symbols have one kind of reference each (build/assemble.cc); of others it does not
  // matter.
  elf::RelocType reference_type(AtomSymbolId id) const {
    for (const elf::Atom& atom : patch_.fresh.atoms) {
      for (const elf::Ref& ref : atom.refs) {
        if (ref.symbol == id && elf::find_traits(ref.type)->tls) {
          return ref.type;
        }
      }
    }
    return elf::RelocType::None;
  }

  const format::Patch& patch_;
  const match::Target& target_;
  Report& report_;
  format::Patch out_;
  std::map<LinkAddr, LinkAddr> entries_;  // of replaced functions: build's → here
};

}  // namespace

std::optional<format::Patch> rebind(const format::Patch& patch, const match::Target& target,
                                    const std::string& build_id, Report& report) {
  if (patch.replaced.empty()) {
    report.refuse("hook-invalid", patch.hooks.empty() ? "" : patch.hooks.front().name,
                  "a patch of hooks alone replaces no function, so nothing would be proven");
    return std::nullopt;
  }
  return Rebinder(patch, target, report).rebind(build_id);
}

}  // namespace qp::apply
