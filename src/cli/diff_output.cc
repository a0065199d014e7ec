// What changed, with the first differing instruction; what goes into the patch, and why; what stays
// in the target, and why.

#include "cli/diff_output.h"

#include <iostream>

#include <fmt/format.h>

#include "cli/atom_name.h"

namespace qp::cli {
namespace {

const char* fate_name(objdiff::Fate fate) {
  switch (fate) {
    case objdiff::Fate::Same:
      return "same";
    case objdiff::Fate::Changed:
      return "changed";
    case objdiff::Fate::New:
      return "new";
    case objdiff::Fate::Removed:
      return "removed";
  }
  return "";
}

// "           f.c:12 → f.c:13", or nothing.
std::string lines_text(const objdiff::Unit& unit) {
  if (!unit.first_difference || unit.first_difference->original_line.empty()) {
    return "";
  }
  const objdiff::Difference& d = *unit.first_difference;
  return d.original_line == d.patched_line || d.patched_line.empty()
             ? fmt::format("           {}\n", d.original_line)
             : fmt::format("           {} → {}\n", d.original_line, d.patched_line);
}

}  // namespace

void print_diff(const objdiff::Diff& diff, bool full) {
  for (const objdiff::Unit& u : diff.units) {
    if (u.fate == objdiff::Fate::Same) {
      continue;
    }
    std::cout << fmt::format("  {:<8} {}", fate_name(u.fate), u.name);
    if (u.first_difference) {
      std::cout << fmt::format("  at +{:#x}: {}", u.first_difference->original_at,
                               u.first_difference->what);
    }
    std::cout << '\n' << lines_text(u);
  }
  if (!full) {
    return;
  }
  for (const objdiff::Inclusion& i : diff.included) {
    std::cout << fmt::format("  include  {}  ({})\n", display_name(diff.patched, i.patched), i.why);
  }
  for (const objdiff::Diff::Bound& b : diff.bound) {
    std::cout << fmt::format("  bind     {}  ({})\n", diff.patched.symbols[b.patched].name, b.why);
  }
}

nlohmann::json diff_json(const objdiff::Diff& diff) {
  auto units = nlohmann::json::array();
  for (const objdiff::Unit& u : diff.units) {
    nlohmann::json unit = {{"name", u.name}, {"fate", fate_name(u.fate)}};
    if (u.first_difference) {
      unit["first_difference"] = {{"original_at", u.first_difference->original_at},
                                  {"patched_at", u.first_difference->patched_at},
                                  {"original_line", u.first_difference->original_line},
                                  {"patched_line", u.first_difference->patched_line},
                                  {"what", u.first_difference->what}};
    }
    units.push_back(std::move(unit));
  }
  auto included = nlohmann::json::array();
  for (const objdiff::Inclusion& i : diff.included) {
    included.push_back({{"name", diff.patched.name_of(i.patched)}, {"why", i.why}});
  }
  auto bound = nlohmann::json::array();
  for (const objdiff::Diff::Bound& b : diff.bound) {
    bound.push_back({{"name", diff.patched.symbols[b.patched].name}, {"why", b.why}});
  }
  return {{"units", std::move(units)},
          {"included", std::move(included)},
          {"bound", std::move(bound)},
          {"change", diff.changed()}};
}

}  // namespace qp::cli
