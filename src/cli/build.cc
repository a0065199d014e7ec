// qpatch build: from a source diff to a patch file.

#include "build/build.h"

#include <algorithm>
#include <iostream>
#include <map>
#include <memory>

#include <fmt/format.h>

#include "apply/endless.h"
#include "base/fd.h"
#include "cli/commands.h"
#include "cli/diff_output.h"
#include "cli/executable.h"
#include "cli/messages.h"
#include "cli/patch_name.h"
#include "format/file.h"

namespace qp::cli {
namespace {

struct BuildArguments {
  std::string compdb, link_command, output, description, keep;
  std::vector<std::string> targets, debug_files, patches, cves, allow, supersedes;
  int jobs = 0;
  bool verbose = false, json = false;
};

// A patch file, whose predecessors go with it, or an id.
void add_superseded(const std::string& what, build::Request& request) {
  const auto add = [&](const std::string& id) {
    auto& ids = request.supersedes;
    if (std::find(ids.begin(), ids.end(), id) == ids.end()) {
      ids.push_back(id);
    }
  };
  if (is_patch_id(what)) {
    return add(what);
  }
  format::PatchFile patch = format::open_patch(what);
  add(patch.id());
  for (const std::string& id : patch.parts.front().meta.supersedes) {
    add(id);
  }
  request.predecessors.push_back(std::move(patch));
}

build::Request make_request(const BuildArguments& args) {
  build::Request r;
  r.compdb = args.compdb;
  r.patches.assign(args.patches.begin(), args.patches.end());
  for (const std::string& target : args.targets) {
    r.targets.push_back(resolve_target(target));
  }
  r.debug_files.assign(args.debug_files.begin(), args.debug_files.end());
  r.link_command = args.link_command;
  r.description = args.description;
  r.cves = args.cves;
  r.waivers.insert(args.allow.begin(), args.allow.end());
  for (const std::string& patch : args.supersedes) {
    add_superseded(patch, r);
  }
  r.keep = args.keep;
  r.jobs = args.jobs;
  return r;
}

nlohmann::json units_json(const build::Result& result) {
  auto units = nlohmann::json::array();
  for (const build::UnitResult& u : result.units) {
    units.push_back({{"source", u.source}, {"reason", u.reason}, {"compiled", u.compiled}});
  }
  return units;
}

nlohmann::json result_json(const build::Result& result, const Report& report) {
  nlohmann::json out = {{"units", units_json(result)},
                        {"warnings", result.warnings},
                        {"waived", to_json(report.waived())}};
  if (result.patch) {
    auto functions = nlohmann::json::array(), endless = nlohmann::json::array();
    for (const format::Patch& part : result.patch->parts) {
      for (const format::Replaced& f : part.replaced) {
        functions.push_back({{"name", f.name},
                             {"file", f.file},
                             {"target", part.meta.target_name},
                             {"why", f.why}});
      }
      for (const apply::Endless& e : apply::find_endless(part)) {
        endless.push_back({{"name", e.function}, {"why", e.why}, {"advice", apply::explain(e)}});
      }
    }
    out["never_return"] = std::move(endless);
    out["id"] = result.patch->id();
    out["functions"] = std::move(functions);
  }
  return out;
}

// Units that were not compiled are many in a large project, for few reasons: then they are counted.
void print_units(const build::Result& result, bool all) {
  constexpr size_t kFew = 3;
  std::map<std::string, size_t> skipped;
  for (const build::UnitResult& u : result.units) {
    skipped[u.reason] += u.compiled ? 0 : 1;
  }
  for (const build::UnitResult& u : result.units) {
    if (all || u.compiled || skipped[u.reason] <= kFew) {
      std::cout << fmt::format("{}: {}\n", u.source, u.reason);
    }
  }
  for (const auto& [reason, count] : skipped) {
    if (!all && count > kFew) {
      std::cout << fmt::format("{} other units: {}\n", count, reason);
    }
  }
}

ExitCode no_change(const BuildArguments& args, const build::Result& result, const Report& report) {
  if (args.json) {
    auto out = result_json(result, report);
    out["change"] = false;
    print_json(std::move(out));
  } else {
    print_units(result, args.verbose);
    std::cout << "no change\n";
  }
  return ExitCode::NoChange;
}

ExitCode run_build(const BuildArguments& args) {
  build::Request request = make_request(args);
  Report report(request.waivers);
  build::Result result = build::build(request, report);
  print_warnings(result.warnings);
  print_warnings(report.warnings());
  if (args.json && !report.clean()) {
    auto out = result_json(result, report);
    out["refusals"] = to_json(report.refusals());
    print_json(std::move(out));
    std::cout.flush();
  }
  report.checkpoint();
  if (!result.patch) {
    return no_change(args, result, report);
  }
  Bytes file = format::write_patch_file(*result.patch);
  write_file(args.output, file);
  if (args.json) {
    auto out = result_json(result, report);
    out["change"] = true;
    out["file"] = args.output;
    print_json(std::move(out));
    return ExitCode::Done;
  }
  print_units(result, args.verbose);
  for (const objdiff::Diff& d : result.diffs) {
    print_diff(d, args.verbose);
  }
  for (const Refusal& w : report.waived()) {
    std::cout << fmt::format("waived: {}: {}: {}\n", w.id, w.where, w.detail);
  }
  for (const format::Patch& part : result.patch->parts) {
    for (const apply::Endless& e : apply::find_endless(part)) {
      std::cout << fmt::format("note: {}\n", apply::explain(e));
    }
  }
  size_t functions = 0;
  for (const format::Patch& part : result.patch->parts) {
    functions += part.replaced.size();
    if (result.patch->parts.size() > 1) {
      std::cout << fmt::format("{}: {} function{}\n", part.meta.target_name, part.replaced.size(),
                               part.replaced.size() == 1 ? "" : "s");
    }
  }
  std::cout << fmt::format("{}: patch {}, {} function{}, {} bytes\n", args.output,
                           result.patch->id(), functions, functions == 1 ? "" : "s", file.size());
  return ExitCode::Done;
}

}  // namespace

Command add_build(CLI::App& app) {
  auto args = std::make_shared<BuildArguments>();
  CLI::App* sub = app.add_subcommand("build", "Make a patch file from a source diff");
  sub->add_option("--compdb", args->compdb, "compile_commands.json, or its directory")->required();
  sub->add_option("--patch", args->patches, "Unified diff; repeat for several")->required();
  sub->add_option("--target", args->targets,
                  "The program or library to be repaired: a file, or a PID; repeat for several")
      ->required();
  sub->add_option("-o,--output", args->output, "Patch file to write")->required();
  sub->add_option("--debuginfo", args->debug_files,
                  "Separate debug file of a target; repeat for several");
  sub->add_option("--link-command", args->link_command,
                  "File with the command that links the target, for builds with -flto");
  sub->add_option("--cve", args->cves, "CVE id that the patch closes; repeat for several");
  sub->add_option("--description", args->description, "One line on what the patch does");
  sub->add_option("--allow", args->allow, "Waiver ID:NAME, such as type-layout:Foo; recorded");
  sub->add_option(
      "--supersedes", args->supersedes,
      "Patch, as a file or by its id, whose place the new one takes; repeat for several");
  sub->add_option("--keep", args->keep, "Keep the compiled objects in this directory");
  sub->add_option("-j,--jobs", args->jobs, "Compilations at once (0: one per processor)");
  sub->add_flag("-v,--verbose", args->verbose, "Also tell what is included and bound, and why");
  sub->add_flag("--json", args->json, "Machine-readable output");
  return {sub, [args] { return run_build(*args); }};
}

}  // namespace qp::cli
