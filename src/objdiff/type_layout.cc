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
// A function that other units call must keep its prototype: they pass what the old one expected.

#include "objdiff/type_layout.h"

#include <algorithm>

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
  return a.kind == b.kind ? "" : fmt::format("{} → {}", a.kind, b.kind);
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
        report.refuse("type-layout", name, fmt::format("{} {}: {}", a.kind, name, what));
      }
    }
  }
  for (const auto& [name, prototype] : before.prototypes) {
    auto it = after.prototypes.find(name);
    if (it != after.prototypes.end() && it->second != prototype) {
      report.refuse("prototype-changed", name, fmt::format("{} → {}", prototype, it->second));
    }
  }
}

}  // namespace qp::objdiff
