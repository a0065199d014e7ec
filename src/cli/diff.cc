// qpatch diff: what changed between two objects, and why. Needs no target.

#include "objdiff/diff.h"

#include <iostream>
#include <memory>

#include "cli/commands.h"
#include "cli/diff_output.h"
#include "cli/messages.h"
#include "elf/file.h"
#include "objdiff/lines.h"
#include "objdiff/split.h"
#include "objdiff/type_layout.h"

namespace qp::cli {
namespace {

struct DiffArguments {
  std::string original, patched;
  std::vector<std::string> allow;
  bool json = false;
};

ExitCode run_diff(const DiffArguments& args) {
  Report report({args.allow.begin(), args.allow.end()});
  elf::File original = elf::File::open(args.original);
  elf::File patched = elf::File::open(args.patched);
  objdiff::Diff diff =
      objdiff::diff(objdiff::split(original, report), objdiff::split(patched, report), report);
  objdiff::compare_types(original, patched, report);
  objdiff::add_lines(diff, original, patched);
  if (args.json) {
    auto out = diff_json(diff);
    out["refusals"] = to_json(report.refusals());
    print_json(std::move(out));
  } else {
    print_diff(diff, true);
  }
  print_warnings(report.warnings());
  std::cout.flush();
  report.checkpoint();
  if (!diff.changed()) {
    if (!args.json) {
      std::cout << "no change\n";
    }
    return ExitCode::NoChange;
  }
  return ExitCode::Done;
}

}  // namespace

Command add_diff(CLI::App& app) {
  auto args = std::make_shared<DiffArguments>();
  CLI::App* sub = app.add_subcommand("diff", "What changed between two objects, and why");
  sub->add_option("original", args->original, "Object file of the original source")->required();
  sub->add_option("patched", args->patched, "Object file of the patched source")->required();
  sub->add_option("--allow", args->allow, "Waiver ID:NAME, such as type-layout:Foo");
  sub->add_flag("--json", args->json, "Machine-readable output");
  return {sub, [args] { return run_diff(*args); }};
}

}  // namespace qp::cli
