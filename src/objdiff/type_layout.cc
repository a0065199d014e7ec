// Do existing objects still look the way new code expects?
//
// The most dangerous patch is one that looks harmless: a struct gets one more member, all functions
// of the unit are recompiled, everything links, and new code writes behind objects that old code
// allocated, or reads a list that other units still fill in the old layout. So every type that both
// versions describe must have the same layout: size, members, offsets, bit fields. Objects may
// exist anywhere, so it does not matter whether a changed function uses the type; a user who knows
// that no object can exist says so by name (--allow=type-layout:NAME).
//
// An enumeration may get new values: those that are stored keep their meaning. A sentinel behind
// them that moves is a changed value and refused.
//
// A variable keeps its content, so it keeps its type, and the constants of an enumeration without a
// name are stored somewhere as well. A variable that gets another name is another variable, which
// starts anew; that can be meant and is a warning.
//
// A function that other units call must keep its prototype: they pass what the old one expected.

#include "objdiff/type_layout.h"

#include <algorithm>
#include <iterator>
#include <set>

#include <fmt/format.h>

#include "elf/types_dwarf.h"

namespace qp::objdiff {
namespace {

using elf::TypeLayout;
using elf::TypeMember;

std::string place(const TypeMember& m) {
  std::string text = fmt::format("offset {}", m.bit_offset / 8);
  if (m.bit_size != 0 || m.bit_offset % 8 != 0) {
    text += fmt::format(", bit {}, {} bits", m.bit_offset % 8, m.bit_size);
  }
  return text;
}

// Objects keep the vtable that their constructor gave them, so slots may neither move nor come: new
// code would look for them behind the end of the old table.
std::string virtual_difference(const TypeLayout& a, const TypeLayout& b) {
  for (const auto& [name, slot] : a.virtuals) {
    auto it = b.virtuals.find(name);
    if (it == b.virtuals.end()) {
      return fmt::format("the virtual function {} is gone", name);
    }
    if (it->second != slot) {
      return fmt::format("the virtual function {} has slot {} of the vtable, not {}", name,
                         it->second, slot);
    }
  }
  for (const auto& [name, slot] : b.virtuals) {
    if (!a.virtuals.contains(name)) {
      return fmt::format("the virtual function {} is new", name);
    }
  }
  return "";
}

// The first thing that differs, in words. Empty: nothing that matters.
std::string difference(const TypeLayout& a, const TypeLayout& b) {
  for (const auto& [name, value] : a.values) {
    auto it = b.values.find(name);
    if (it == b.values.end()) {
      return fmt::format("the value {} is gone", name);
    }
    if (it->second != value) {
      return fmt::format("the value {} is {}, not {}", name, it->second, value);
    }
  }
  std::string size = a.size == b.size ? "" : fmt::format(" (size {} → {})", a.size, b.size);
  for (size_t n = 0; n < std::max(a.members.size(), b.members.size()); ++n) {
    if (n >= a.members.size()) {
      return fmt::format("member {} is new{}", b.members[n].name, size);
    }
    if (n >= b.members.size()) {
      return fmt::format("member {} is gone{}", a.members[n].name, size);
    }
    const TypeMember &x = a.members[n], &y = b.members[n];
    if (x.name != y.name) {
      bool added = std::none_of(a.members.begin(), a.members.end(),
                                [&](const TypeMember& m) { return m.name == y.name; });
      return added ? fmt::format("member {} is new{}", y.name, size)
                   : fmt::format("member {} is gone or moved{}", x.name, size);
    }
    if (x.bit_offset != y.bit_offset || x.bit_size != y.bit_size) {
      return fmt::format("member {}: {} → {}{}", x.name, place(x), place(y), size);
    }
    if (x.type != y.type) {
      return fmt::format("member {}: {} → {}{}", x.name, x.type, y.type, size);
    }
  }
  if (!size.empty()) {
    return fmt::format("size {} → {}", a.size, b.size);
  }
  if (std::string what = virtual_difference(a, b); !what.empty()) {
    return what;
  }
  bool same_kind = (a.kind == "enum") == (b.kind == "enum") &&
                   (a.kind == "union") == (b.kind == "union");  // struct or class is the same
  return same_kind ? "" : fmt::format("{} → {}", a.kind, b.kind);
}

// "; used by f, g and 3 more": where a reviewer has to look. Nothing if nobody in this unit does.
std::string users_text(const elf::TypeTable& table, const std::string& type) {
  constexpr size_t kMostNamed = 3;
  auto found = table.users.find(type);
  if (found == table.users.end()) {
    return "";
  }
  std::string out;
  size_t named = 0;
  for (const std::string& user : found->second) {
    if (named == kMostNamed) {
      return fmt::format("{} and {} more", out, found->second.size() - named);
    }
    out += (named++ == 0 ? "; used by " : ", ") + user;
  }
  return out;
}

std::string one_of(const std::set<std::string>& types) {
  return types.empty() ? "" : *types.begin();
}

void compare_variables(const elf::TypeTable& before, const elf::TypeTable& after, Report& report) {
  std::set<std::string> gone;
  for (const auto& [name, types] : before.variables) {
    auto it = after.variables.find(name);
    if (it == after.variables.end()) {
      gone.insert(name);
    } else if (!std::includes(it->second.begin(), it->second.end(), types.begin(), types.end())) {
      report.refuse("type-layout", name,
                    fmt::format("the variable was {} and is {}; what it holds stays", one_of(types),
                                one_of(it->second)));
    }
  }
  for (const auto& [name, types] : after.variables) {
    if (before.variables.contains(name)) {
      continue;
    }
    auto renamed = std::find_if(gone.begin(), gone.end(), [&](const std::string& old) {
      return before.variables.at(old) == types;
    });
    if (renamed != gone.end()) {
      report.warn(
          fmt::format("{} is gone and {} of the same type is new: it does not get the value "
                      "of the old one",
                      *renamed, name));
      gone.erase(renamed);
    }
  }
  for (const auto& [name, value] : before.constants) {
    auto it = after.constants.find(name);
    if (it != after.constants.end() && it->second != value) {
      report.refuse("type-layout", name,
                    fmt::format("the value {} is {}, not {}", name, it->second, value));
    }
  }
}

}  // namespace

void compare_types(const elf::File& original, const elf::File& patched, Report& report) {
  elf::TypeTable before = elf::read_types(original), after = elf::read_types(patched);
  if (!before.available || !after.available) {
    report.warn(fmt::format("{} has no debug information: layouts of types are not compared",
                            (before.available ? patched : original).name()));
    return;
  }
  for (const auto& [name, layouts] : before.types) {
    auto it = after.types.find(name);
    if (it == after.types.end()) {
      continue;
    }
    // Several types of one name are told apart by content: block scopes have no better name.
    for (const TypeLayout& a : layouts) {
      std::string what;
      for (const TypeLayout& b : it->second) {
        what = difference(a, b);
        if (what.empty()) {
          break;
        }
      }
      if (!what.empty()) {
        report.refuse("type-layout", name,
                      fmt::format("{} {}: {}{}", a.kind, name, what, users_text(after, name)));
      }
    }
  }
  compare_variables(before, after, report);
  for (const auto& [name, prototype] : before.prototypes) {
    auto it = after.prototypes.find(name);
    if (it != after.prototypes.end() && it->second != prototype) {
      report.refuse("prototype-changed", name, fmt::format("{} → {}", prototype, it->second));
    }
  }
}

}  // namespace qp::objdiff
