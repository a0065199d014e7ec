// The macros of include/qpatch/hooks.h leave a record per hook in a section of its own: which
// function, when, and what the other threads do meanwhile. The record is for us: it is read here and
// goes into no patch as data.
//
// A source can hold hooks of an earlier patch, which was made part of the program when it was built
// anew. Then the original object has the record as well. Such a hook has nothing to do with this
// patch, unless its function changed: somebody edited it, and will expect it to run. (The macro's own
// function calls the author's. If only that one changed, the macro's is not in the patch, and the
// hook needs another name.)
//
// The function has to be one of the patch. One that the program has already, unchanged, would be run
// from where it is: not wrong, but then nothing had been compiled for it, and what it refers to had
// not been looked for. That is refused, as is a record of another version.

#include "objdiff/hooks.h"

#include <algorithm>
#include <cctype>
#include <set>
#include <tuple>

#include <fmt/format.h>

#include "objdiff/explain.h"

namespace qp::objdiff {
namespace {

using elf::AtomId;

constexpr uint64_t kRecordSize = 16;
constexpr uint16_t kRecordVersion = 1;
constexpr std::string_view kPrefix = "qpatch_record_";

// "raise_limit" of "qpatch_record_pre_apply_raise_limit", mangled or not.
std::string name_in(const std::string& record) {
  size_t start = record.find(kPrefix);
  if (start == std::string::npos) {
    return record;
  }
  size_t digits = start;
  while (digits > 0 && std::isdigit(static_cast<unsigned char>(record[digits - 1])) != 0) {
    --digits;
  }
  std::string name = record.substr(start);
  if (digits != start) {  // of a mangled name: how long it is
    name.resize(std::min<size_t>(name.size(), std::stoul(record.substr(digits, start - digits))));
  }
  name = name.substr(0, name.find('.'));
  for (std::string_view kind : {"pre_apply_", "post_apply_", "pre_revert_", "post_revert_"}) {
    if (std::string_view(name).substr(kPrefix.size()).starts_with(kind)) {
      return name.substr(kPrefix.size() + kind.size());
    }
  }
  return name;
}

// Nullopt, and why, if it is not what the macros make.
std::optional<Diff::Hook> read_record(const Side& side, AtomId id, std::string& why) {
  const elf::Atom& a = side.atom(id);
  if (a.size != kRecordSize || a.bytes.size() != kRecordSize) {
    why = fmt::format("a record of {} bytes", a.size);
    return std::nullopt;
  }
  if (auto version = load<uint16_t>(a.bytes, 8); version != kRecordVersion) {
    why = fmt::format("its record has version {}, this qpatch knows {}", version, kRecordVersion);
    return std::nullopt;
  }
  const bool one = a.refs.size() == 1 && a.refs[0].at == 0 &&
                   a.refs[0].type == elf::RelocType::R64 && a.refs[0].addend == 0;
  const auto to = one ? side.target(a.refs[0]) : std::nullopt;
  if (!to || !is_code(side.atom(*to)) || side.root(*to) != *to ||
      side.graph.symbols[a.refs[0].symbol].offset != 0) {
    why = "its record names no function of this source";
    return std::nullopt;
  }
  Diff::Hook hook{name_in(side.graph.name_of(id)), load<uint8_t>(a.bytes, 10),
                  load<uint8_t>(a.bytes, 11), load<uint32_t>(a.bytes, 12), *to};
  if (hook.when < 1 || hook.when > 4 || hook.others < 1 || hook.others > 2) {
    why = "its record says neither when it runs nor what the other threads do";
    return std::nullopt;
  }
  return hook;
}

bool calls_changed(const Side& side, const Diff& diff, AtomId function) {
  for (const elf::Ref& ref : side.atom(function).refs) {
    const auto to = side.target(ref);
    if (!to || !is_code(side.atom(*to))) {
      continue;
    }
    for (const Unit& u : diff.units) {
      if (u.patched == side.root(*to) && u.fate != Fate::Same) {
        return true;
      }
    }
  }
  return false;
}

}  // namespace

void read_hooks(const Sides& sides, Diff& diff, Report& report) {
  std::string why;
  std::set<std::tuple<AtomId, uint8_t, uint8_t>> before;
  for (AtomId o = 0; o < sides.original.graph.atoms.size(); ++o) {
    if (sides.original.is_hook(o)) {
      if (auto hook = read_record(sides.original, o, why)) {
        before.emplace(hook->function, hook->when, hook->others);
      }
    }
  }
  for (AtomId p = 0; p < sides.patched.graph.atoms.size(); ++p) {
    if (!sides.patched.is_hook(p)) {
      continue;
    }
    auto hook = read_record(sides.patched, p, why);
    if (!hook) {
      report.refuse("hook-invalid", describe_atom(sides.patched, p), why);
      continue;
    }
    auto unit = std::find_if(diff.units.begin(), diff.units.end(),
                             [&](const Unit& u) { return u.patched == hook->function; });
    const auto predecessor = diff.original_of[hook->function];
    if (unit != diff.units.end() && unit->fate != Fate::Same) {
      diff.hooks.push_back(std::move(*hook));
    } else if (!predecessor || !before.contains({*predecessor, hook->when, hook->others})) {
      report.refuse("hook-invalid", hook->name,
                    "it is a hook now, and its function is in the program and did not change");
    } else if (calls_changed(sides.patched, diff, hook->function)) {
      report.refuse("hook-invalid", hook->name,
                    "it changed, and a hook of that name is in the program already");
    }
  }
  std::stable_sort(diff.hooks.begin(), diff.hooks.end(), [](const auto& a, const auto& b) {
    return std::tie(a.line, a.name, a.when) < std::tie(b.line, b.name, b.when);
  });
}

}  // namespace qp::objdiff
