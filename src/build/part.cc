// A fix can reach into several modules of a program: the executable, its libraries, code of a static
// library that was linked into more than one of them. Each touched unit is compared with each
// target, and goes into the part of every target in which its original code is proven.
//
// The danger is a target that holds the unit, but not as it was compiled: another set of flags,
// another version. To leave it out there, because it was found elsewhere, would repair half of the
// program and say nothing. So a unit is left to the other targets only where nothing of it is: the
// target has none of the changed functions by name, and none of the unit's code. (A target without
// names: no function of the unit fits anywhere.) A unit of another directory that has the same file
// name is what that is about. Everything else stays a finding.

#include "build/part.h"

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include <fmt/format.h>

#include "base/error.h"
#include "build/absence.h"
#include "build/assemble.h"
#include "build/rehearse.h"
#include "build/variables.h"

namespace qp::build {

namespace fs = std::filesystem;

namespace {

format::Meta make_meta(const Request& request, const Part& part) {
  const TargetFile& target = part.target;
  format::Meta meta;
  meta.target_name = target.name;
  meta.target_soname = target.file->soname();
  meta.target_build_id = target.file->build_id().value_or("");
  meta.position_independent = target.file->type() == elf::FileType::SharedObject;
  meta.description = request.description;
  meta.cves = request.cves;
  meta.supersedes = request.supersedes;
  for (const Analysis& unit : part.units) {
    if (unit.chosen) {
      meta.sources.push_back(unit.unit->recorded_file);
      meta.toolchain = meta.toolchain.empty() ? unit.toolchain : meta.toolchain;
    }
  }
  return meta;
}

bool is_proven(const Analysis& unit) {
  return unit.part_of_target && unit.diff && unit.report.clean() &&
         (unit.diff->changed() || unit.diff->adds_globals());
}

// Whether the target's names know the function, of a static one in a unit of this file name.
bool is_named(const elf::AtomSymbol& function, const match::SymbolMap& symbols) {
  const std::vector<uint32_t> scopes = symbols.scopes_named(function.file);
  const auto named = symbols.named(function.name);
  return std::any_of(named.begin(), named.end(), [&](const match::MapEntry* entry) {
    return function.bind != elf::SymbolBind::Local || scopes.empty() ||
           std::binary_search(scopes.begin(), scopes.end(), entry->scope);
  });
}

// Where the local symbols are gone, so is what a library keeps to itself: hidden functions, and all that a
// version script makes local.
bool can_lack_name(const elf::AtomSymbol& function, const match::SymbolMap& symbols) {
  return !symbols.keeps_locals() &&
         (symbols.is_library() || function.bind == elf::SymbolBind::Local ||
          function.visibility == elf::Visibility::Hidden ||
          function.visibility == elf::Visibility::Internal);
}

bool is_absent(const Analysis& unit, const TargetFile& target, const Absence& absence) {
  if (!unit.before_match || !unit.before_match->clean() || unit.matched.functions_proven != 0 ||
      absence.has_own_global(unit.diff->original)) {
    return false;
  }
  if (!target.symbols.has_symtab()) {
    return unit.matched.functions_fitting == 0;
  }
  const elf::AtomGraph& original = unit.diff->original;
  return std::none_of(
      unit.wanted.functions.begin(), unit.wanted.functions.end(), [&](elf::AtomId id) {
        const elf::AtomSymbol& symbol = original.symbol_of(id);
        return can_lack_name(symbol, target.symbols) || is_named(symbol, target.symbols);
      });
}

// For each target the debug file that has its build-id.
std::vector<fs::path> assign_debug_files(const Request& request) {
  std::vector<fs::path> out(request.targets.size());
  if (request.targets.size() == 1 && request.debug_files.size() == 1) {
    return request.debug_files;  // open_target() has more to say about a wrong one
  }
  for (const fs::path& file : request.debug_files) {
    const auto id = elf::File::open(file).build_id();
    bool used = false;
    for (size_t i = 0; i < out.size(); ++i) {
      if (id && elf::File::open(request.targets[i]).build_id() == id) {
        out[i] = file;
        used = true;
      }
    }
    if (!used) {
      throw Error("debug-mismatch", "using the debug file", file.string(),
                  "no target has its build-id");
    }
  }
  return out;
}

// Hooks alone replace nothing, so nothing of such a unit had to be proven. Something of the target has
// to be: of the unit, or, of a unit that is all new, something else that the patch is made from.
void check_hooks_are_for(Part& part) {
  const bool any = std::any_of(part.units.begin(), part.units.end(), [](const Analysis& unit) {
    return unit.part_of_target && unit.report.clean() && unit.matched.functions_proven != 0;
  });
  for (const Analysis& unit : part.units) {
    if (!unit.chosen || unit.diff->hooks.empty() || unit.matched.functions_proven != 0 ||
        (any && unit.matched.functions_tried == 0)) {
      continue;
    }
    part.report.refuse(
        "hook-invalid", unit.diff->hooks.front().name,
        fmt::format("no function of {} could be proven in the target, so nothing "
                    "shows that the hook was written for it",
                    any || unit.matched.functions_tried != 0 ? unit.unit->recorded_file
                                                             : "the changed units"));
  }
}

}  // namespace

std::vector<Part> open_parts(const Request& request, Report& report,
                             std::vector<std::string>& warnings) {
  const std::vector<fs::path> debug_files = assign_debug_files(request);
  std::vector<Part> parts;
  std::map<std::string, std::string> known;
  for (size_t i = 0; i < request.targets.size(); ++i) {
    Part part;
    part.target = open_target(request.targets[i], debug_files[i], report, warnings);
    part.report = Report(request.waivers);
    const std::string id = part.target.file->build_id().value_or("");
    if (const auto [at, is_new] = known.emplace(id, part.target.name); !is_new && !id.empty()) {
      throw Error("usage", "opening the target", request.targets[i].string(),
                  fmt::format("it has the same build-id as {}", at->second), ExitCode::Usage);
    }
    parts.push_back(std::move(part));
  }
  return parts;
}

void leave_to_others(std::vector<Part>& parts, std::vector<std::string>& warnings) {
  for (Part& part : parts) {
    const Absence absence = present_units(part.units, part.target);
    for (size_t u = 0; u < part.units.size(); ++u) {
      Analysis& unit = part.units[u];
      const bool elsewhere = std::any_of(parts.begin(), parts.end(), [&](const Part& other) {
        return &other != &part && is_proven(other.units[u]);
      });
      if (elsewhere && unit.part_of_target && !unit.report.clean() &&
          is_absent(unit, part.target, absence)) {
        warnings.push_back(fmt::format("{}: not in {}: nothing of its code is there",
                                       unit.unit->recorded_file, part.target.name));
        unit.part_of_target = false;
        unit.report = Report();
        unit.reason = "compiled; no part of the target: it has none of its code";
      }
    }
  }
}

namespace {

std::vector<UnitTypes> read_types(const Part& part) {
  std::vector<UnitTypes> out;
  for (const Analysis& unit : part.units) {
    for (size_t i = 0; unit.chosen && i < unit.types.size(); ++i) {
      out.push_back({unit.whole_program ? "" : unit.diff->patched.source,
                     elf::read_types(elf::File::open(unit.types[i].patched))});
    }
  }
  return out;
}

}  // namespace

std::optional<format::Patch> make_patch(Part& part, const Request& request) {
  std::vector<MatchedUnit> matched;
  check_hooks_are_for(part);
  for (Analysis& unit : part.units) {
    if (unit.chosen) {
      matched.push_back({&*unit.diff, std::move(unit.wanted), std::move(unit.matched)});
    }
  }
  // The database's order is make's, and may be another one each time.
  std::stable_sort(matched.begin(), matched.end(), [](const MatchedUnit& a, const MatchedUnit& b) {
    return a.diff->original.source < b.diff->original.source;
  });
  check_agreement(matched, part.report);
  if (matched.empty() || !part.report.clean()) {
    return std::nullopt;
  }
  const TargetFile& target = part.target;
  format::Patch patch =
      assemble(matched, target.symbols, target.file->tls_block_end(), part.known, part.report);
  if (!part.report.clean() || (patch.replaced.empty() && patch.hooks.empty())) {
    return std::nullopt;
  }
  patch.meta = make_meta(request, part);
  if (!patch.variables.empty()) {
    add_types(patch, read_types(part));
  }
  rehearse_link(patch, target, part.report);
  return patch;
}

void check_new_globals(const format::PatchFile& file, Report& report) {
  std::map<std::string, const format::Patch*> known;
  for (const format::Patch& part : file.parts) {
    for (const elf::AtomSymbolId id : format::new_globals(part)) {
      const elf::AtomSymbol& symbol = part.fresh.symbols[id];
      if (symbol.bind == elf::SymbolBind::Weak) {
        continue;  // they are equal, wherever they are
      }
      const auto [at, is_new] = known.emplace(symbol.name, &part);
      if (!is_new) {
        report.refuse("definition-conflict", symbol.name,
                      fmt::format("{} and {} both define it anew, and which of the two a library "
                                  "would use depends on how the program is linked",
                                  at->second->meta.target_name, part.meta.target_name));
      }
    }
  }
}

void record_waivers(const Part& part, const Report& whole, format::Patch& patch) {
  std::set<std::string> waivers;
  for (const Report* report : {&part.report, &whole}) {
    for (const Refusal& waived : report->waived()) {
      waivers.insert(fmt::format("{}:{}", waived.id, waived.where));
    }
  }
  patch.meta.waivers.assign(waivers.begin(), waivers.end());
}

void join_reports(const std::vector<Part>& parts, Report& report) {
  using Key = std::tuple<std::string, std::string, std::string>;
  const auto key = [](const Refusal& r) { return Key(r.id, r.where, r.detail); };
  std::map<Key, std::vector<const Part*>> holders;
  const auto each = [&](const auto& f) {
    for (const Part& part : parts) {
      for (const Refusal& refusal : part.report.waived()) {
        f(part, refusal);
      }
      for (const Refusal& refusal : part.report.refusals()) {
        f(part, refusal);
      }
    }
  };
  each([&](const Part& part, const Refusal& r) { holders[key(r)].push_back(&part); });
  each([&](const Part& part, const Refusal& r) {
    const std::vector<const Part*>& all = holders[key(r)];
    const auto own = static_cast<size_t>(std::count(all.begin(), all.end(), &part));
    if (own == all.size() && parts.size() > 1) {
      report.refuse(r.id, r.where, fmt::format("{}: {}", part.target.name, r.detail));
    } else if (all.front() == &part) {
      report.refuse(r.id, r.where, r.detail);
    }
  });
  for (const Part& part : parts) {
    for (const std::string& warning : part.report.warnings()) {
      report.warn(parts.size() == 1 ? warning : fmt::format("{}: {}", part.target.name, warning));
    }
  }
}

std::vector<UnitResult> results_of(const std::vector<Part>& parts) {
  std::vector<UnitResult> out;
  for (size_t u = 0; u < parts.front().units.size(); ++u) {
    const Analysis& unit = parts.front().units[u];
    const bool same = std::all_of(parts.begin(), parts.end(), [&](const Part& part) {
      return part.units[u].reason == unit.reason;
    });
    std::string reason = unit.reason;
    if (!same) {
      reason.clear();
      for (const Part& part : parts) {
        reason += fmt::format("{}{}: {}", reason.empty() ? "" : "; ", part.target.name,
                              part.units[u].reason);
      }
    }
    out.push_back({unit.unit->recorded_file, reason, true});
  }
  return out;
}

}  // namespace qp::build
