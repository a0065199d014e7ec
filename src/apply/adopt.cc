// A patch that supersedes another one has that one's new variables as well, and they have values by
// now. Copying these at the switch would be wrong as soon as somebody holds the address of one: there
// would be two. So a variable stays where it was born, in the image of the first patch that had it, and
// the new code is linked to it like to any other variable of the process. That image stays mapped as
// long as the patch is applied, or another that took the variable over in turn.
//
// For link that is a patch with fewer variables and more bindings, which is what is made here. Of a
// thread-local variable each thread has one in a block that the first patch's image describes; link
// makes new code ask for it by that description. The patch's own block still has room for it, which
// nothing uses.

#include "apply/adopt.h"

#include <algorithm>
#include <map>
#include <set>

#include <fmt/format.h>

#include "base/error.h"

namespace qp::apply {
namespace {

using elf::AtomId;
using elf::AtomSymbolId;

bool is_same(const RegistryVariable& a, const RegistryVariable& b) {
  return a.name == b.name && a.file == b.file;
}

// What keeps the two from being the same variable; "" if nothing does.
std::string difference(const RegistryVariable& before, const RegistryVariable& now) {
  if (before.block_offset.has_value() != now.block_offset.has_value()) {
    return before.block_offset ? "it was thread-local" : "it was not thread-local";
  }
  if (before.size != now.size) {
    return fmt::format("it has {} bytes in the process and {} in the patch", before.size, now.size);
  }
  return before.type == now.type ? "" : "it has another type in the process";
}

// Takes atoms out of a patch. Nothing may refer to them any more.
void remove_atoms(format::Patch& patch, const std::set<AtomId>& gone) {
  std::map<AtomId, AtomId> number;
  std::vector<elf::Atom> left;
  for (AtomId id = 0; id < patch.fresh.atoms.size(); ++id) {
    if (!gone.contains(id)) {
      number[id] = static_cast<AtomId>(left.size());
      left.push_back(std::move(patch.fresh.atoms[id]));
    }
  }
  for (elf::Atom& atom : left) {
    if (atom.parent) {
      atom.parent = number.at(*atom.parent);
    }
  }
  for (elf::AtomSymbol& symbol : patch.fresh.symbols) {
    if (symbol.atom) {
      symbol.atom = number.at(*symbol.atom);
    }
  }
  for (format::Replaced& f : patch.replaced) {
    f.new_function = number.at(f.new_function);
  }
  for (format::Hook& hook : patch.hooks) {
    hook.function = number.at(hook.function);
  }
  patch.fresh.atoms = std::move(left);
}

}  // namespace

RegistryVariable describe(const format::Patch& patch, const format::Variable& variable) {
  const elf::AtomSymbol& symbol = patch.fresh.symbols[variable.symbol];
  const elf::Atom& atom = patch.fresh.atoms[symbol.atom.value()];
  RegistryVariable out{.name = variable.name,
                       .file = symbol.bind == elf::SymbolBind::Local ? symbol.file : "",
                       .type = variable.type,
                       .at = LiveAddr(0),
                       .size = atom.size,
                       .block_offset = std::nullopt};
  if (elf::is_tls(atom.storage)) {
    out.block_offset = 0;
  }
  return out;
}

Adopted adopt(const format::Patch& patch, const std::vector<RegistryVariable>& there, LoadBias bias,
              Report& report) {
  Adopted out{patch, {}, {}};
  std::set<AtomId> gone;
  out.patch.variables.clear();
  for (const format::Variable& variable : patch.variables) {
    const RegistryVariable now = describe(patch, variable);
    const auto same = [&](const RegistryVariable& v) { return is_same(v, now); };
    const auto known = std::find_if(there.begin(), there.end(), same);
    if (known == there.end()) {
      out.patch.variables.push_back(variable);
      continue;
    }
    if (std::count_if(patch.variables.begin(), patch.variables.end(),
                      [&](auto& other) { return is_same(describe(patch, other), now); }) > 1) {
      report.refuse("variable-changed", now.name, "the patch has several of this name");
      continue;
    }
    if (std::any_of(std::next(known), there.end(), same)) {
      report.refuse("variable-changed", now.name,
                    "the patches that are superseded have several of this name");
      continue;
    }
    if (const std::string what = difference(*known, now); !what.empty()) {
      report.refuse("variable-changed", now.name, what);
      continue;
    }
    const AtomId atom = patch.fresh.symbols[variable.symbol].atom.value();
    for (AtomSymbolId id = 0; id < patch.fresh.symbols.size(); ++id) {
      const uint64_t offset = patch.fresh.symbols[id].offset;
      if (patch.fresh.symbols[id].atom != atom) {
        continue;
      }
      if (known->block_offset) {
        out.thread_locals[id] = {bias(known->at), *known->block_offset + offset};
        continue;
      }
      out.patch.fresh.symbols[id].atom = std::nullopt;
      out.patch.fresh.symbols[id].offset = 0;
      out.patch.fresh_bindings[id].kind = elf::BindingKind::Address;
      out.patch.fresh_bindings[id].address = bias(known->at) + offset;
    }
    if (!known->block_offset) {
      gone.insert(atom);
    }
    out.variables.push_back(*known);
  }
  remove_atoms(out.patch, gone);
  return out;
}

}  // namespace qp::apply
