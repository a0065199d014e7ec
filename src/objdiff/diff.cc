// The diff of two objects, step by step.
//
//   correlate     which atom is which                         correlate.cc
//   contents      what data hold, what references mean        contents.cc
//   units         function by function: same, changed, new    compare.cc, frames.cc
//   closure       what the patch needs, what stays bound      closure.cc
//   state         what can't be changed in a process          state.cc
//   hooks         functions that qpatch is to run             hooks.cc
//   check         law 1, by other means                       explained.cc
//
// Why it is enough to replace what changed: the callers that did not change were compiled in the
// patched compilation as well, and came out the same. So whatever the compiler assumed about a
// callee when it compiled them (registers it leaves alone, arguments it ignores) holds for the new
// callee too, provided that all changed functions are switched at once. That is the transaction's
// promise (DESIGN.md, P2).

#include "objdiff/diff.h"

#include <algorithm>
#include <unordered_map>

#include <fmt/format.h>

#include "objdiff/closure.h"
#include "objdiff/compare.h"
#include "objdiff/contents.h"
#include "objdiff/explain.h"
#include "objdiff/hooks.h"
#include "objdiff/pieces.h"
#include "objdiff/sides.h"

namespace qp::objdiff {
namespace {

using elf::AtomId;

std::vector<AtomId> pieces(const Side& side, AtomId root) {
  const auto& unit = side.unit(root);
  return {unit.begin() + 1, unit.end()};
}

std::optional<Difference> compare_atoms(const Sides& sides, Contents& contents, AtomId o,
                                        AtomId p) {
  auto difference = compare_code(sides, contents, o, p);
  if (!difference) {
    difference = compare_frames(sides, contents, o, p);
  }
  if (difference) {
    difference->original_atom = o;
    difference->patched_atom = p;
  }
  return difference;
}

std::optional<Difference> compare_units(const Sides& sides, const Correlation& correlation,
                                        Contents& contents, const Unit& unit) {
  if (auto d = compare_atoms(sides, contents, *unit.original, *unit.patched)) {
    return d;
  }
  if (unit.original_pieces.size() != unit.patched_pieces.size()) {
    return Difference{
        0, 0,
        fmt::format("{} pieces, not {}", unit.patched_pieces.size(), unit.original_pieces.size()),
        *unit.original, *unit.patched};
  }
  for (AtomId p : unit.patched_pieces) {
    auto o = correlation.original_of[p];
    if (!o || sides.original.root(*o) != *unit.original || *o == *unit.original) {
      return Difference{0, 0, fmt::format("piece {} is new", describe_atom(sides.patched, p)),
                        *unit.original, p};
    }
    if (auto d = compare_atoms(sides, contents, *o, p)) {
      d->what = fmt::format("in {}: {}", describe_atom(sides.patched, p), d->what);
      return d;
    }
  }
  return std::nullopt;
}

void find_units(const Sides& sides, const Correlation& correlation, Contents& contents,
                Diff& diff) {
  std::vector<bool> seen(sides.original.graph.atoms.size());
  for (AtomId p = 0; p < sides.patched.graph.atoms.size(); ++p) {
    if (!is_code(sides.patched.atom(p)) || sides.patched.root(p) != p) {
      continue;
    }
    Unit u;
    u.name = describe_atom(sides.patched, p);
    u.patched = p;
    u.patched_pieces = pieces(sides.patched, p);
    auto o = correlation.original_of[p];
    if (!o) {
      u.fate = Fate::New;
    } else {
      u.original = sides.original.root(*o);
      u.original_pieces = pieces(sides.original, *u.original);
      seen[*u.original] = true;
      if (*u.original != *o) {
        u.first_difference = {0, 0, "it was a piece of another function", *o, p};
      } else {
        u.first_difference = compare_units(sides, correlation, contents, u);
      }
      u.fate = u.first_difference ? Fate::Changed : Fate::Same;
    }
    diff.units.push_back(std::move(u));
  }
  for (AtomId o = 0; o < sides.original.graph.atoms.size(); ++o) {
    if (is_code(sides.original.atom(o)) && sides.original.root(o) == o && !seen[o]) {
      Unit u;
      u.name = describe_atom(sides.original, o);
      u.fate = Fate::Removed;
      u.original = o;
      u.original_pieces = pieces(sides.original, o);
      diff.units.push_back(std::move(u));
    }
  }
}

// A piece that is a function of its own can be entered from anywhere, and would need a detour,
// which jumps out of other functions would not find.
void check_entries(const Sides& sides, const Diff& diff, Report& report) {
  for (const Unit& u : diff.units) {
    if (u.fate != Fate::Changed && u.fate != Fate::New) {
      continue;
    }
    for (AtomId piece : u.patched_pieces) {
      if (parent_name(sides.patched.graph.name_of(piece)).empty()) {
        report.refuse("object-unsupported", u.name,
                      fmt::format("it shares code with {}, by jumps into the middle",
                                  describe_atom(sides.patched, piece)));
      }
    }
  }
}

// A name that leads elsewhere: an alias of another function now, or a name that became one. Whoever
// calls it, in other units too, went to what it was; no entry is there that could be replaced.
void check_names(const Sides& sides, const Correlation& correlation, Report& report) {
  std::unordered_map<std::string_view, const elf::AtomSymbol*> before;
  for (const elf::AtomSymbol& symbol : sides.original.graph.symbols) {
    if (symbol.atom && symbol.bind != elf::SymbolBind::Local) {
      before.emplace(symbol.name, &symbol);
    }
  }
  for (const elf::AtomSymbol& symbol : sides.patched.graph.symbols) {
    const auto found = before.find(symbol.name);
    if (!symbol.atom || symbol.bind == elf::SymbolBind::Local || found == before.end()) {
      continue;
    }
    const elf::AtomSymbol& old = *found->second;
    const std::optional<AtomId> now = correlation.patched_of[*old.atom];
    const bool elsewhere =
        now ? *now != *symbol.atom : correlation.original_of[*symbol.atom].has_value();
    const bool shifted = sides.original.atom(*old.atom).kind != elf::AtomKind::Function &&
                         old.offset != symbol.offset;
    if (elsewhere || shifted) {
      report.refuse("alias-changed", symbol.name,
                    fmt::format("it was {} and is {}", describe_atom(sides.original, *old.atom),
                                describe_atom(sides.patched, *symbol.atom)));
    }
  }
}

// Private data has no identity; for those who read the Diff, its counterpart is one of equal
// content.
void pair_private(const Sides& sides, Contents& contents, Diff& diff) {
  std::unordered_map<uint32_t, AtomId> original;
  for (AtomId o = 0; o < sides.original.graph.atoms.size(); ++o) {
    if (sides.original.is_private(o)) {
      original.emplace(contents.content(sides.original, o), o);
    }
  }
  std::unordered_map<uint32_t, AtomId> patched;
  for (AtomId p = 0; p < sides.patched.graph.atoms.size(); ++p) {
    if (sides.patched.is_private(p)) {
      uint32_t content = contents.content(sides.patched, p);
      patched.emplace(content, p);
      if (auto it = original.find(content); it != original.end()) {
        diff.original_of[p] = it->second;
      }
    }
  }
  for (AtomId o = 0; o < sides.original.graph.atoms.size(); ++o) {
    if (sides.original.is_private(o)) {
      if (auto it = patched.find(contents.content(sides.original, o)); it != patched.end()) {
        diff.patched_of[o] = it->second;
      }
    }
  }
}

}  // namespace

Diff diff(elf::AtomGraph original, elf::AtomGraph patched, Report& report) {
  Diff out;
  out.original = std::move(original);
  out.patched = std::move(patched);
  Sides sides(out.original, out.patched);
  Correlation correlation = correlate(sides);
  Contents contents(sides, correlation);
  out.original_of = correlation.original_of;
  out.patched_of = correlation.patched_of;
  pair_private(sides, contents, out);
  find_units(sides, correlation, contents, out);
  check_entries(sides, out, report);
  check_names(sides, correlation, report);
  close_over(sides, correlation, contents, out, report);
  check_state(sides, correlation, contents, out, report);
  read_hooks(sides, out, report);
  check_explained(out, report);
  return out;
}

bool Diff::adds_globals() const {
  return std::any_of(included.begin(), included.end(), [&](const Inclusion& i) {
    const elf::AtomSymbol& symbol = patched.symbol_of(i.patched);
    return !original_of[i.patched] && symbol.bind == elf::SymbolBind::Global && !symbol.anonymous;
  });
}

}  // namespace qp::objdiff
