// What lives in the process already.
//
// A variable has been initialised long ago. A new initial value in the source would either have no
// effect or, if it were written, destroy state; a new size would not fit. A table of label
// addresses points into code that is replaced. Constructors have run. None of that can be brought
// into a running process by replacing functions, and each would be missed silently by a differ that
// looks at functions only. So all data are looked at, also those that no changed function uses.

#include <algorithm>
#include <map>
#include <string>
#include <string_view>

#include <fmt/format.h>

#include "objdiff/bounds.h"
#include "objdiff/closure.h"
#include "objdiff/explain.h"

namespace qp::objdiff {
namespace {

using elf::AtomId;

// Units whose code is replaced, by their function in the original object.
std::vector<bool> replaced_units(const Sides& sides, const Diff& diff) {
  std::vector<bool> out(sides.original.graph.atoms.size());
  for (const Unit& u : diff.units) {
    if (u.fate == Fate::Changed && u.original) {
      out[*u.original] = true;
    }
  }
  return out;
}

void check_variable(const Sides& sides, Contents& contents, AtomId o, AtomId p, Report& report) {
  const elf::Atom &a = sides.original.atom(o), &b = sides.patched.atom(p);
  std::string name = describe_atom(sides.original, o);
  if (a.size != b.size) {
    report.refuse("variable-resized", name, fmt::format("{} bytes, not {}", b.size, a.size));
    return;
  }
  if (b.alignment > a.alignment) {
    report.refuse("variable-resized", name,
                  fmt::format("aligned to {} bytes, not {}", b.alignment, a.alignment));
    return;
  }
  if (contents.data_key(sides.original, o) == contents.data_key(sides.patched, p)) {
    return;
  }
  size_t at = 0;
  while (at < std::min(a.bytes.size(), b.bytes.size()) && a.bytes[at] == b.bytes[at]) {
    ++at;
  }
  bool bytes = at < std::min(a.bytes.size(), b.bytes.size());
  report.refuse("initialiser-changed", name,
                bytes ? fmt::format("byte {} of its initial value: {} → {}", at,
                                    hex(ByteView(a.bytes).subspan(at), 4),
                                    hex(ByteView(b.bytes).subspan(at), 4))
                      : std::string("its initial value refers to something else"));
}

// Read-only data that is changed and named: both copies would be in use if anybody else knows it.
void check_escape(const Sides& sides, AtomId o, AtomId p, const Correlation& correlation,
                  Report& report) {
  std::string name = describe_atom(sides.original, o);
  const elf::AtomSymbol &s = sides.original.graph.symbols[sides.original.atom(o).symbol],
                        &t = sides.patched.graph.symbols[sides.patched.atom(p).symbol];
  if (s.bind != elf::SymbolBind::Local || t.bind != elf::SymbolBind::Local) {
    report.refuse("readonly-escapes", name, "other source files can refer to it");
  }
  for (AtomId user : sides.original.referrers(o)) {
    const elf::Atom& u = sides.original.atom(user);
    if (elf::is_writable(u.storage) && correlation.patched_of[user]) {
      report.refuse(
          "readonly-escapes", name,
          fmt::format("the variable {} holds its address", describe_atom(sides.original, user)));
    }
  }
}

// What runs at start and exit, in order.
std::map<std::string, std::string> init_lists(const Side& side, Contents& contents) {
  std::map<std::string, std::string> lists;
  for (AtomId id = 0; id < side.graph.atoms.size(); ++id) {
    if (side.is_init(id)) {
      lists[side.atom(id).section] += contents.data_key(side, id);
    }
  }
  return lists;
}

void check_init(const Sides& sides, Contents& contents, const Diff& diff, Report& report) {
  auto before = init_lists(sides.original, contents), after = init_lists(sides.patched, contents);
  for (const auto& [section, list] : before) {
    if (!after.contains(section)) {
      report.refuse("init-changed", section, "a function that runs at start or exit is gone");
    } else if (after[section] != list) {
      report.refuse("init-changed", section, "other functions run at start or exit");
    }
  }
  for (const auto& [section, list] : after) {
    if (!before.contains(section)) {
      report.refuse("init-changed", section, "a new function would run at start or exit");
    }
  }
  for (const Unit& u : diff.units) {
    if (u.fate != Fate::Changed) {
      continue;
    }
    const auto& users = sides.original.referrers(*u.original);
    bool only_at_start =
        !users.empty() && std::all_of(users.begin(), users.end(), [&](AtomId user) {
          const std::string& section = sides.original.atom(user).section;
          bool at_exit = section.starts_with(".fini_array") || section.starts_with(".dtors");
          return sides.original.is_init(user) && !at_exit;
        });
    if (only_at_start) {
      report.refuse("init-changed", u.name, "a constructor, which has run already, changed");
    }
  }
}

bool names_thread_init(const elf::AtomGraph& graph, AtomId id) {
  return std::any_of(graph.symbols.begin(), graph.symbols.end(), [&](const elf::AtomSymbol& s) {
    return s.atom == id && (s.name == "__tls_init" || s.name.starts_with("_ZTH"));
  });
}

// C++ initialises all thread-local variables of a unit when a thread uses the first of them, and notes
// that in __tls_guard (Itanium C++ ABI, 5.2.6). In a thread that has done so, one that comes later stays
// without it. Those within functions have guards of their own.
void check_thread_init(const Sides& sides, const Correlation& correlation, const Diff& diff,
                       Report& report) {
  const elf::AtomGraph& original = sides.original.graph;
  const elf::AtomGraph& patched = sides.patched.graph;
  const bool guarded =
      std::any_of(original.symbols.begin(), original.symbols.end(),
                  [](const elf::AtomSymbol& s) { return s.atom && s.name == "__tls_guard"; });
  if (!guarded) {
    return;
  }
  for (const Unit& u : diff.units) {
    if (u.fate == Fate::Changed && names_thread_init(original, *u.original)) {
      report.refuse(
          "init-changed", u.name,
          "it initialises thread-local variables, which it has done in threads that exist");
    }
  }
  for (AtomId p = 0; p < patched.atoms.size(); ++p) {
    const std::string& name = patched.name_of(p);
    const bool in_function = name.starts_with("_ZZ") || name.starts_with("_ZGVZ");
    if (elf::is_tls(patched.atoms[p].storage) && !correlation.original_of[p] &&
        !correlation.ambiguous_patched[p] && !in_function) {
      report.refuse("init-changed", name,
                    "a constructor of a new thread-local variable would not run in threads that "
                    "have initialised the others");
    }
  }
}

// The body of a C++20 coroutine becomes functions that go on with a frame where it was suspended (GCC's
// .actor; clang's .resume, .destroy and .cleanup). The frame holds their addresses, the number of the place
// and all variables: what the compiler made of them cannot be told from new code.
bool continues_coroutine(std::string_view name) {
  return name.find(".Frame.") != std::string_view::npos || name.ends_with(".resume") ||
         name.ends_with(".destroy") || name.ends_with(".cleanup");
}

void check_coroutines(const Diff& diff, Report& report) {
  for (const Unit& u : diff.units) {
    if (u.fate == Fate::Changed && continues_coroutine(u.name)) {
      report.refuse("coroutine-changed", u.name,
                    "coroutines that are suspended would go on in the new code with frames of the "
                    "old one");
    }
  }
}

// Code that stays and makes the address of a place inside code that is replaced (GNU labels as
// values, hand-written assembly). Addresses beside a function are arithmetic and lead nowhere.
void check_labels_in_code(const Side& side, AtomId id, const std::vector<bool>& replaced,
                          Report& report) {
  const elf::Atom& a = side.atom(id);
  for (const elf::Ref& ref : a.refs) {
    auto to = side.target(ref);
    const elf::RelocTraits* traits = elf::find_traits(ref.type);
    if (!to || !is_code(side.atom(*to)) || replaced[side.root(id)] || !replaced[side.root(*to)] ||
        traits == nullptr || traits->via_got) {
      continue;
    }
    int64_t offset = target_offset(ref, a, side.code_map(id));
    if (offset > 0 && static_cast<uint64_t>(offset) < side.atom(*to).size) {
      report.refuse("label-address", describe_atom(side, id),
                    fmt::format("it makes an address inside {}", describe_atom(side, *to)));
      return;
    }
  }
}

}  // namespace

void check_state(const Sides& sides, const Correlation& correlation, Contents& contents,
                 const Diff& diff, Report& report) {
  std::vector<bool> replaced = replaced_units(sides, diff);
  for (AtomId o = 0; o < sides.original.graph.atoms.size(); ++o) {
    const elf::Atom& a = sides.original.atom(o);
    if (is_code(a)) {
      check_labels_in_code(sides.original, o, replaced, report);
    }
    if (is_code(a) || sides.original.is_init(o) || sides.original.is_aside(o)) {
      continue;
    }
    auto successor = correlation.patched_of[o];
    if (!successor) {
      if (elf::is_writable(a.storage) && !correlation.ambiguous_original[o] &&
          !sides.original.is_private(o)) {
        report.warn(fmt::format("variable {} is gone; its memory stays as it is",
                                describe_atom(sides.original, o)));
      }
    } else if (elf::is_writable(a.storage)) {
      check_variable(sides, contents, o, *successor, report);
    } else if (!sides.original.is_private(o) && contents.changed(o)) {
      check_escape(sides, o, *successor, correlation, report);
    }
    // Addresses inside code that is replaced, kept by something that is not.
    for (const elf::Ref& ref : a.refs) {
      auto to = sides.original.target(ref);
      if (!to || !is_code(sides.original.atom(*to)) || !replaced[sides.original.root(*to)] ||
          is_lsda(a) || target_offset(ref, a, nullptr) == 0) {
        continue;
      }
      bool kept = elf::is_writable(a.storage) || !sides.original.is_private(o);
      for (AtomId user : sides.original.referrers(o)) {
        const elf::Atom& u = sides.original.atom(user);
        kept = kept || !is_code(u) || !replaced[sides.original.root(user)];
      }
      if (kept) {
        report.refuse("label-address", describe_atom(sides.original, o),
                      fmt::format("it holds addresses inside {}",
                                  describe_atom(sides.original, sides.original.root(*to))));
        break;
      }
    }
  }
  check_init(sides, contents, diff, report);
  check_thread_init(sides, correlation, diff, report);
  check_coroutines(diff, report);
}

}  // namespace qp::objdiff
