// From two objects to a diff that is tied to the target.
//
// One source can have several objects in the database (for an archive and a shared library; for two
// programs with different -D). The target may hold any of them, or more than one. All are compiled
// and compared; those count whose original functions are proven in the target, each at places of
// its own. If none is, the findings of the one that came closest are reported.

#include "build/analysis.h"

#include <algorithm>
#include <map>

#include <fmt/format.h>

#include "base/fd.h"
#include "build/absence.h"
#include "objdiff/lines.h"
#include "objdiff/merge.h"
#include "objdiff/split.h"
#include "objdiff/type_layout.h"

namespace qp::build {

namespace fs = std::filesystem;

namespace {

std::string summarise(const objdiff::Diff& diff) {
  size_t changed = 0, added = 0;
  for (const objdiff::Unit& unit : diff.units) {
    changed += unit.fate == objdiff::Fate::Changed ? 1 : 0;
    added += unit.fate == objdiff::Fate::New ? 1 : 0;
  }
  auto functions = [](size_t n) { return fmt::format("{} function{}", n, n == 1 ? "" : "s"); };
  if (changed + added == 0) {
    return diff.adds_globals() ? "compiled; its code is equal, and it has new variables"
                               : "compiled; its code is equal";
  }
  std::string out = "compiled; " + functions(changed) + " changed";
  return added == 0 ? out : out + ", " + functions(added) + " new";
}

std::vector<elf::File> open_all(const std::vector<fs::path>& objects) {
  std::vector<elf::File> files;
  files.reserve(objects.size());
  for (const fs::path& object : objects) {
    files.push_back(elf::File::open(object));
  }
  return files;
}

elf::AtomGraph split_files(const std::vector<elf::File>& objects, Report& report) {
  std::vector<elf::AtomGraph> graphs;
  graphs.reserve(objects.size());
  for (const elf::File& object : objects) {
    graphs.push_back(objdiff::split(object, report));
  }
  return objdiff::merge(std::move(graphs));
}

}  // namespace

elf::AtomGraph split_all(const std::vector<fs::path>& objects, Report& report) {
  return split_files(open_all(objects), report);
}

void analyse(Analysis& unit, const TargetFile& target, const std::set<std::string>& waivers) {
  unit.report = Report(waivers);
  std::vector<elf::File> original = open_all(unit.original), patched = open_all(unit.patched);
  std::vector<std::string> producers = original[0].producers();
  unit.toolchain = producers.empty() ? "" : producers[0];
  unit.compiler_warning =
      compare_compilers(original[0], target.names.debug ? *target.names.debug : *target.file);
  elf::AtomGraph before = split_files(original, unit.report);
  if (!unit.whole_program && !is_part_of(before, target.symbols)) {
    unit.part_of_target = false;
    unit.report = Report(waivers);
    unit.reason = "compiled; no part of the target";
    return;
  }
  elf::AtomGraph after = split_files(patched, unit.report);
  unit.diff = objdiff::diff(std::move(before), std::move(after), unit.report);
  unit.reason = summarise(*unit.diff);
  for (const Objects& types : unit.types) {
    objdiff::compare_types(elf::File::open(types.original), elf::File::open(types.patched),
                           unit.report);
  }
  if (original.size() == 1 && patched.size() == 1) {
    objdiff::add_lines(*unit.diff, original[0], patched[0]);
  }
  // A unit that can't be taken apart properly is not compared with the target: what that would find
  // follows from the first finding.
  if (unit.report.clean() && (unit.diff->changed() || unit.diff->adds_globals())) {
    unit.wanted = wanted_of(*unit.diff);
    unit.before_match = unit.report;
    unit.matched = match::match(unit.diff->original, unit.wanted.functions, unit.wanted.symbols,
                                target.view(), unit.report);
  }
}

Absence present_units(const std::vector<Analysis>& units, const TargetFile& target) {
  Absence absence(target);
  for (const Analysis& unit : units) {
    if (unit.part_of_target && unit.diff && unit.report.clean() && !unit.whole_program &&
        unit.matched.functions_proven != 0) {
      absence.add_present(unit.diff->original, unit.matched);
    }
  }
  return absence;
}

void find_absent(std::vector<Analysis>& units, const TargetFile& target,
                 std::vector<std::string>& warnings) {
  const Absence absence = present_units(units, target);
  for (Analysis& unit : units) {
    // Without a match nothing was looked for.
    if (!unit.part_of_target || unit.whole_program || !unit.before_match || unit.report.clean() ||
        !absence.shows_absence(unit.diff->original, unit.matched)) {
      continue;
    }
    unit.part_of_target = false;
    unit.report = Report();
    unit.reason =
        target.symbols.has_symtab()
            ? fmt::format("compiled; no part of the target: its {} is another file",
                          unit.diff->original.source)
            : fmt::format("compiled; no part of the target: it has none of the {} functions",
                          unit.matched.functions_tried);
    warnings.push_back(fmt::format("{}: {}", unit.unit->recorded_file, unit.reason));
  }
}

// Units of one program agree about its globals.
void check_agreement(const std::vector<MatchedUnit>& units, Report& report) {
  struct Known {
    elf::Binding binding;
    std::string source;
  };
  std::map<std::string, Known> known;
  for (const MatchedUnit& unit : units) {
    const elf::AtomGraph& graph = unit.diff->original;
    for (elf::AtomSymbolId id = 0; id < unit.matched.bindings.size(); ++id) {
      const elf::AtomSymbol& symbol = graph.symbols[id];
      const elf::Binding& binding = unit.matched.bindings[id];
      if (symbol.bind == elf::SymbolBind::Local || symbol.anonymous ||
          (binding.kind != elf::BindingKind::Address &&
           binding.kind != elf::BindingKind::TpOffset)) {
        continue;
      }
      const auto [at, fresh] = known.try_emplace(symbol.name, Known{binding, graph.source});
      if (!fresh && (at->second.binding.address != binding.address ||
                     at->second.binding.tp_offset != binding.tp_offset)) {
        report.refuse(
            "binding-conflict", symbol.name,
            fmt::format("{} and {} have it at different places", at->second.source, graph.source));
      }
    }
  }
}

// A unit that replaces no function has no place that tells it from another object of its source. It
// is the same unit if its functions are where the other one's are, or if it has none and both were
// compiled to the same bytes.
bool is_same_unit(const Analysis& a, const Analysis& b) {
  const std::set<LinkAddr> of_a = places_of(a.diff->original, a.matched);
  const std::set<LinkAddr> of_b = places_of(b.diff->original, b.matched);
  if (of_a.empty() && of_b.empty()) {
    return std::equal(a.patched.begin(), a.patched.end(), b.patched.begin(), b.patched.end(),
                      [](const fs::path& left, const fs::path& right) {
                        return read_file(left) == read_file(right);
                      });
  }
  return std::any_of(of_a.begin(), of_a.end(), [&](LinkAddr at) { return of_b.contains(at); });
}

// A hook runs once, for one object.
void check_hooks(const std::vector<Analysis*>& group, Report& report) {
  std::set<std::string> known;
  for (const Analysis* unit : group) {
    std::set<std::string> own;
    if (!unit->chosen) {
      continue;
    }
    for (const objdiff::Diff::Hook& hook : unit->diff->hooks) {
      if (known.contains(hook.name)) {
        report.refuse("hook-invalid", hook.name,
                      "the target holds two objects of its source, and nothing tells for which of "
                      "them it is to run");
      }
      own.insert(hook.name);
    }
    known.merge(own);
  }
}

// Of several objects of one source: those that the target holds.
void choose(std::vector<Analysis>& units, Report& report, std::vector<std::string>& warnings) {
  std::map<fs::path, std::vector<Analysis*>> by_source;
  std::vector<fs::path> order;
  for (Analysis& unit : units) {
    if (unit.part_of_target) {
      auto& group = by_source[unit.unit->replay.source];
      if (group.empty()) {
        order.push_back(unit.unit->replay.source);
      }
      group.push_back(&unit);
    }
  }
  for (const fs::path& source : order) {
    std::vector<Analysis*>& group = by_source[source];
    std::set<LinkAddr> taken;
    const Analysis* best = nullptr;
    bool any_clean = false;
    for (Analysis* unit : group) {
      if (unit->report.clean()) {
        any_clean = true;
        bool again = std::any_of(unit->matched.replaced.begin(), unit->matched.replaced.end(),
                                 [&](auto& r) { return taken.contains(r.entry); });
        again |= unit->matched.replaced.empty() && !unit->diff->hooks.empty() &&
                 std::any_of(group.begin(), group.end(), [&](const Analysis* other) {
                   return other->chosen && is_same_unit(*other, *unit);
                 });
        if (again) {
          unit->reason += "; equal to another object of the same source";
          continue;
        }
        for (const match::ReplacedUnit& replaced : unit->matched.replaced) {
          taken.insert(replaced.entry);
        }
        unit->chosen = unit->diff->changed() || unit->diff->adds_globals();
      } else if (best == nullptr ||
                 unit->matched.functions_proven > best->matched.functions_proven) {
        best = unit;
      }
    }
    check_hooks(group, report);
    for (Analysis* unit : group) {
      for (const Refusal& refusal : unit->report.waived()) {
        report.refuse(refusal.id, refusal.where, refusal.detail);
      }
      if (any_clean && !unit->report.clean()) {
        unit->reason += "; the target holds another object of this source";
        warnings.push_back(fmt::format("{}: one of its objects is not what the target holds ({})",
                                       unit->unit->recorded_file,
                                       unit->report.refusals().front().id));
      }
    }
    if (!any_clean && best != nullptr) {
      for (const Refusal& refusal : best->report.refusals()) {
        report.refuse(refusal.id, refusal.where, refusal.detail);
      }
    }
  }
}

}  // namespace qp::build
