// `qpatch build`: the straight list of what happens.
//
//   1. open the targets; find what the diffs touch; find the units that read it; preprocess
//   2. compile each of them twice: the user's tree as it is, and with the patched files over it; if
//      there are new thread-local variables, the patched one once more (thread_locals.h)
//   3. take both objects apart and compare them (objdiff), and the layouts of their types
//   4. find the original functions and symbols in each target and prove them (match)
//   5. put the units together into one patch for each target (assemble), and link it once for trial
//      (rehearse)
//
// Steps 3 to 5 are taken once for each target (part.h). Units are independent up to step 4, so they
// run in parallel; what they find goes into a report of their own, and these are joined in the
// database's order: messages and the patch do not depend on timing.

#include "build/build.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include <fmt/format.h>

#include "base/error.h"
#include "base/fd.h"
#include "build/analysis.h"
#include "build/compdb.h"
#include "build/compile.h"
#include "build/lto.h"
#include "build/parallel.h"
#include "build/part.h"
#include "build/patched_tree.h"
#include "build/thread_locals.h"
#include "build/touched_units.h"
#include "build/variables.h"

namespace qp::build {
namespace {

namespace fs = std::filesystem;

// Compilations to come, in no order.
class Compilations {
 public:
  Compilations(const View& original, const View& patched, fs::path directory)
      : original_(original), patched_(patched), directory_(std::move(directory)) {}

  // One directory per object: compilers put side files beside it, of the same name.
  Objects add(const Replay& replay) {
    std::string stem = replay.source.stem().string() + ".o";
    Objects objects{place(fmt::format("{}.original", jobs_.size())) / stem,
                    place(fmt::format("{}.patched", jobs_.size())) / stem};
    jobs_.push_back({replay, objects});
    return objects;
  }
  fs::path place(const std::string& name) {
    fs::create_directories(directory_ / name);
    return directory_ / name;
  }
  void run(int threads) const {
    for_each_parallel(jobs_.size() * 2, threads, [&](size_t i) {
      const Job& job = jobs_[i / 2];
      if (i % 2 == 0) {
        compile_object(job.replay, original_, job.objects.original, "original");
      } else {
        compile_object(job.replay, patched_, job.objects.patched, "patched");
      }
    });
  }
  // Compiles units with new thread-local variables once more, such that link can place these.
  void place_thread_locals(PatchedTree& tree, int threads) const {
    std::vector<elf::ThreadLocal> added;
    std::set<std::string> globals;
    for (const Job& job : jobs_) {
      for (elf::ThreadLocal& variable : new_thread_locals(job)) {
        if (variable.function.empty()) {
          globals.insert(variable.name);
        }
        added.push_back(std::move(variable));
      }
    }
    if (added.empty()) {
      return;
    }
    std::vector<const Job*> again;
    for (const Job& job : jobs_) {
      bool uses = job.replay.lto;
      for (elf::ThreadLocal& v : elf::read_thread_locals(elf::File::open(job.objects.patched))) {
        const bool declared = !v.is_defined && globals.contains(v.name);
        uses |= declared || std::find(added.begin(), added.end(), v) != added.end();
        if (declared) {
          added.push_back(std::move(v));
        }
      }
      if (uses) {
        again.push_back(&job);
      }
    }
    if (make_dynamic(tree, added)) {
      for_each_parallel(again.size(), threads, [&](size_t i) {
        compile_object(again[i]->replay, patched_, again[i]->objects.patched, "patched");
      });
    }
  }

 private:
  struct Job {
    Replay replay;
    Objects objects;
  };
  static std::vector<elf::ThreadLocal> new_thread_locals(const Job& job) {
    const elf::File patched = elf::File::open(job.objects.patched);
    const bool any =
        std::any_of(patched.symbols().begin(), patched.symbols().end(),
                    [](const elf::Symbol& s) { return s.type == elf::SymbolType::Tls; });
    const std::vector<std::string> producers =
        any ? patched.producers() : std::vector<std::string>{};
    if (producers.empty() || !producers[0].starts_with("GNU ")) {
      return {};
    }
    return find_new_thread_locals(elf::File::open(job.objects.original), patched);
  }
  const View &original_, &patched_;
  fs::path directory_;
  std::vector<Job> jobs_;
};

std::vector<Analysis> compile_units(const TouchedUnits& touched, Compilations& compilations) {
  std::vector<Analysis> units;
  for (const TouchedUnit& unit : touched.units) {
    if (!unit.replay.lto) {
      Analysis analysis;
      analysis.unit = &unit;
      Objects objects = compilations.add(unit.replay);
      analysis.original = {objects.original};
      analysis.patched = {objects.patched};
      if (!unit.replay.assembly) {
        analysis.types = {objects};
      }
      units.push_back(std::move(analysis));
    }
  }
  return units;
}

// The touched units of a program with link-time optimisation: one unit, made by its link.
class WholeProgram {
 public:
  // Units that are no part of the link are told in `skipped`.
  WholeProgram(const TouchedUnits& touched, const Request& request,
               const std::vector<CompileCommand>& commands, Compilations& compilations,
               std::vector<UnitResult>& skipped) {
    std::vector<fs::path> recorded, directories;
    for (const TouchedUnit& unit : touched.units) {
      if (unit.replay.lto) {
        recorded.push_back(unit.replay.object);
      }
    }
    if (recorded.empty()) {
      return;
    }
    for (const CompileCommand& command : commands) {
      if (std::find(directories.begin(), directories.end(), command.directory) ==
          directories.end()) {
        directories.push_back(command.directory);
      }
    }
    if (request.targets.size() > 1) {
      throw Error("link-command", "can't repeat the link of", request.targets.front().string(),
                  "with link-time optimisation a patch can be for one target only");
    }
    fs::path build = fs::is_directory(request.compdb) ? request.compdb
                                                      : fs::absolute(request.compdb).parent_path();
    link_ = find_link_command(request.link_command, build, request.targets.front(), directories,
                              recorded);
    unit_.replay.source = request.targets.front();
    for (const TouchedUnit& unit : touched.units) {
      if (unit.replay.lto && takes_part(link_, unit.replay.object)) {
        add(unit, compilations);
      } else if (unit.replay.lto) {
        skipped.push_back({unit.recorded_file, "not in the link of the target", false});
      }
    }
  }

  bool empty() const { return types_.empty(); }
  // When the objects are there.
  Analysis link(Compilations& compilations) const {
    Analysis analysis;
    analysis.unit = &unit_;
    analysis.whole_program = true;
    analysis.original = link_optimised(link_, original_, compilations.place("link.original"));
    analysis.patched = link_optimised(link_, patched_, compilations.place("link.patched"));
    analysis.types = types_;
    return analysis;
  }

 private:
  void add(const TouchedUnit& unit, Compilations& compilations) {
    unit_.recorded_file += (unit_.recorded_file.empty() ? "" : ", ") + unit.recorded_file;
    Objects objects = compilations.add(unit.replay);
    original_[unit.replay.object] = objects.original;
    patched_[unit.replay.object] = objects.patched;
    Replay plain = unit.replay;  // early debug information is not in the back end's objects
    plain.arguments.push_back("-fno-lto");
    types_.push_back(compilations.add(plain));
  }

  TouchedUnit unit_;
  LinkCommand link_;
  Replacements original_, patched_;
  std::vector<Objects> types_;
};

void keep_objects(const std::vector<Analysis>& units, const fs::path& directory) {
  fs::create_directories(directory);
  for (size_t i = 0; i < units.size(); ++i) {
    std::string stem = units[i].unit->replay.source.stem().string();
    std::string name = units.size() == 1 ? stem : fmt::format("{}.{}", stem, i);
    for (const auto& [side, objects] :
         {std::pair{"original", &units[i].original}, std::pair{"patched", &units[i].patched}}) {
      for (size_t n = 0; n < objects->size(); ++n) {
        std::string number = objects->size() == 1 ? "" : fmt::format(".{}", n);
        write_file(directory / fmt::format("{}{}.{}.o", name, number, side),
                   read_file((*objects)[n]));
      }
    }
  }
}

// The same warning once.
void warn_of_compilers(const std::vector<Analysis>& units, std::vector<std::string>& warnings) {
  for (const Analysis& unit : units) {
    if (unit.compiler_warning && unit.part_of_target &&
        std::find(warnings.begin(), warnings.end(), *unit.compiler_warning) == warnings.end()) {
      warnings.push_back(*unit.compiler_warning);
    }
  }
}

bool holds_any(const Part& part) {
  return std::any_of(part.units.begin(), part.units.end(),
                     [](const Analysis& unit) { return unit.part_of_target; });
}

// Of each unit one, that of the first target for which there is something to tell.
void take_diffs(std::vector<Part>& parts, Result& result) {
  for (size_t u = 0; u < parts.front().units.size(); ++u) {
    for (Part& part : parts) {
      Analysis& unit = part.units[u];
      if (unit.diff && (unit.diff->changed() || !unit.report.clean())) {
        result.diffs.push_back(std::move(*unit.diff));
        break;
      }
    }
  }
}

}  // namespace

Result build(const Request& request, Report& report) {
  Result result;
  std::vector<CompileCommand> commands = read_compdb(request.compdb);
  std::vector<Part> parts = open_parts(request, report, result.warnings);
  report.checkpoint();

  PatchedTree tree(request.patches, commands, result.warnings);
  TouchedUnits touched = find_touched_units(commands, tree, request.jobs, result.warnings);
  result.units = touched.skipped;
  for (const std::string& source : touched.not_compiled) {
    report.refuse("source-not-compiled", source,
                  "the diff changes it, and no command of the compile database compiles it");
  }
  report.checkpoint();

  View original, patched;
  if (!touched.units.empty()) {
    patched = tree.patched_view();
    original.binds = touched.hidden;
    patched.binds.insert(patched.binds.end(), touched.hidden.begin(), touched.hidden.end());
  }
  Compilations compilations(original, patched, tree.scratch() / "objects");
  std::vector<Analysis> units = compile_units(touched, compilations);
  std::optional<WholeProgram> whole;
  try {
    whole.emplace(touched, request, commands, compilations, result.units);
    compilations.run(request.jobs);
    compilations.place_thread_locals(tree, request.jobs);
    if (!whole->empty()) {
      units.push_back(whole->link(compilations));
    }
  } catch (const Error& e) {
    if (e.code() != "link-command") {
      throw;
    }
    report.refuse("lto-unsupported", e.on(), e.said());
    report.checkpoint();
  }
  if (!units.empty() && !request.keep.empty()) {
    keep_objects(units, request.keep);
  }
  // From here on no compiler runs.
  for (Part& part : parts) {
    part.units = units;
  }
  for_each_parallel(units.size() * parts.size(), request.jobs, [&](size_t i) {
    Part& part = parts[i / units.size()];
    analyse(part.units[i % units.size()], part.target, request.waivers);
  });
  for (Part& part : parts) {
    part.known = match_in_context(part.units, part.target, {commands, original, request.jobs},
                                  result.warnings);
    find_absent(part.units, part.target, result.warnings);
  }
  leave_to_others(parts, result.warnings);

  format::PatchFile file;
  std::vector<const Part*> made;
  bool any_part = touched.units.empty();
  for (Part& part : parts) {
    choose(part.units, part.report, result.warnings);
    warn_of_compilers(part.units, result.warnings);
    any_part |= holds_any(part);
    if (auto patch = make_patch(part, request)) {
      file.parts.push_back(std::move(*patch));
      made.push_back(&part);
    } else if (part.report.clean() && parts.size() > 1) {
      result.warnings.push_back(fmt::format("{}: nothing in it changes", part.target.name));
    }
  }
  const std::vector<UnitResult> analysed = results_of(parts);
  result.units.insert(result.units.end(), analysed.begin(), analysed.end());
  check_new_globals(file, report);
  for (size_t i = 0; i < made.size(); ++i) {
    record_waivers(*made[i], report, file.parts[i]);
  }
  join_reports(parts, report);
  if (!any_part) {
    report.refuse("unit-missing", parts.front().target.name,
                  fmt::format("none of the {} changed units is in it{} (the first is {})",
                              units.size(), parts.size() == 1 ? "" : ", or in another target",
                              touched.units[0].recorded_file));
  }
  for (const format::PatchFile& predecessor : request.predecessors) {
    check_variables(file, predecessor, report);
  }
  if (report.clean() && !file.parts.empty()) {
    result.patch = std::move(file);
  }
  take_diffs(parts, result);
  return result;
}

}  // namespace qp::build
