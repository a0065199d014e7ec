// A pointer to a function of the program stays right whatever is patched, since it leads to the old entry
// and from there to the newest code. A function that a patch brought has its entry in the image of that
// patch. The program may have kept its address, in a table or as a callback, and a patch that takes
// the place of that one would find some of its own functions passed by. So the first instruction of such a
// function becomes a jump to its heir, as if it were a function of the program: with the detours in one
// transaction, and taken back with them. The image stays as long as somebody may come that way.
//
// A function that the new patch does not have stays what it is; that is said.

#include "apply/heirs.h"

#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "apply/escape.h"
#include "link/image.h"

namespace qp::apply {
namespace {

using elf::AtomId;
using elf::AtomSymbolId;

constexpr size_t kEntryCode = 64;

std::string file_of(const elf::AtomSymbol& symbol) {
  return symbol.bind == elf::SymbolBind::Local ? symbol.file : "";
}

bool is_function(const format::Patch& patch, const elf::AtomSymbol& symbol) {
  return symbol.atom && symbol.offset == 0 &&
         patch.fresh.atoms[*symbol.atom].kind == elf::AtomKind::Function;
}

}  // namespace

std::vector<Heir> find_heirs(const format::Patch& patch, const std::vector<RegistryFunction>& there,
                             Report& report) {
  std::vector<Heir> out;
  const auto& symbols = patch.fresh.symbols;
  for (const RegistryFunction& before : there) {
    const auto is_heir = [&](const elf::AtomSymbol& s) {
      return s.name == before.name && file_of(s) == before.file && is_function(patch, s);
    };
    const auto now = std::find_if(symbols.begin(), symbols.end(), is_heir);
    if (now != symbols.end() && std::any_of(std::next(now), symbols.end(), is_heir)) {
      report.refuse("symbol-ambiguous", before.name,
                    "the program may have a pointer to one of this name of a superseded patch, and "
                    "the new patch has several");
      continue;
    }
    if (now == symbols.end()) {
      report.warn(
          fmt::format("the patch has no {}: a pointer to it that the program has kept leads "
                      "to the superseded patch's code still",
                      before.name));
      continue;
    }
    out.push_back({before, static_cast<AtomSymbolId>(now - symbols.begin())});
  }
  return out;
}

std::optional<RegistryDetour> lead_on(const Heir& heir, LiveRange to, const MemoryReader& memory,
                                      LoadBias bias, Report& report) {
  const RegistryFunction& f = heir.before;
  Bytes code(std::min<uint64_t>(f.code.size(), kEntryCode));  // what is behind it is not known
  code.resize(memory.read_some(f.code.start, code));
  Report here;
  const auto jump = link::plan_detour(f.name, bias(f.code.start), f.code.size(), code,
                                      bias(to.start), std::nullopt, here);
  if (!jump) {
    const Refusal& why = here.refusals().front();
    report.refuse(why.id, f.name,
                  fmt::format("the program may have a pointer to it, of a superseded patch, which "
                              "can't be led on: {}",
                              why.detail));
    return std::nullopt;
  }
  RegistryDetour out{.function = f.name, .file = f.file};
  out.of_patch = true;
  out.at = bias(jump->at);
  out.saved = jump->expected;
  out.jump = jump->jump;
  out.entry = f.code.start;
  out.new_code = to;
  out.old_code = {f.code};
  return out;
}

std::vector<RegistryFunction> functions_handed_out(
    const format::Patch& patch, const std::function<LiveAddr(AtomSymbolId)>& address) {
  std::set<AtomId> known;
  for (const format::Replaced& f : patch.replaced) {
    known.insert(f.new_function);
  }
  for (const format::Hook& hook : patch.hooks) {
    known.insert(hook.function);
  }
  std::vector<RegistryFunction> out;
  for (const AtomId id : handed_out(patch.fresh)) {
    const elf::Atom& atom = patch.fresh.atoms[id];
    const elf::AtomSymbol& symbol = patch.fresh.symbols[atom.symbol];
    if (!is_function(patch, symbol) || known.contains(id) || symbol.file == link::kRuntimeFile) {
      continue;
    }
    const LiveAddr start = address(atom.symbol);
    out.push_back({symbol.name, file_of(symbol), {start, start + atom.size}});
  }
  return out;
}

}  // namespace qp::apply
