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

// A target without names does not say which units it holds. One of which nothing is there, while
// others are, is not in it; if nothing of any unit is there, the compilations are not the target's.
// With very few functions "nothing is there" may as well mean another version of them. A symbol table
// has a FILE symbol for each unit: where all of that name belong to units that are proven, another
// unit of the name (main.c of another program) is not there.
void find_absent(std::vector<Analysis>& units, const TargetFile& target,
                 std::vector<std::string>& warnings) {
  constexpr uint32_t kFewest = 3;
  const bool any = std::any_of(units.begin(), units.end(), [](const Analysis& unit) {
    return unit.report.clean() && unit.matched.functions_proven != 0;
  });
  const auto is_taken = [&](const Analysis& absent) {
    if (absent.report.clean() || absent.whole_program || !absent.diff ||
        absent.matched.functions_proven != 0) {
      return false;
    }
    const std::string& source = absent.diff->original.source;
    const auto proven = std::count_if(units.begin(), units.end(), [&](const Analysis& unit) {
      return unit.diff && unit.diff->original.source == source && unit.part_of_target &&
             unit.report.clean() && unit.matched.functions_proven != 0;
    });
    return proven != 0 && target.symbols.scopes_named(source).size() <= static_cast<size_t>(proven);
  };
  for (Analysis& unit : units) {
    if (target.symbols.has_symtab() && unit.part_of_target && is_taken(unit)) {
      unit.part_of_target = false;
      unit.report = Report();
      unit.reason = fmt::format("compiled; no part of the target: its {} is another file",
                                unit.diff->original.source);
      warnings.push_back(fmt::format("{}: {}", unit.unit->recorded_file, unit.reason));
    }
    if (any && !target.symbols.has_symtab() && unit.matched.functions_tried >= kFewest &&
        unit.matched.functions_fitting == 0) {
      unit.part_of_target = false;
      unit.report = Report();
      unit.reason = fmt::format("compiled; no part of the target: it has none of the {} functions",
                                unit.matched.functions_tried);
      warnings.push_back(fmt::format("{}: {}", unit.unit->recorded_file, unit.reason));
    }
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
