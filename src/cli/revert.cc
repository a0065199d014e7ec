// qpatch revert: takes a patch out of processes.

#include <memory>

#include "apply/apply.h"
#include "cli/commands.h"
#include "cli/duration.h"
#include "cli/hook_timeout.h"
#include "cli/outcomes.h"
#include "cli/patch_name.h"
#include "proc/process.h"

namespace qp::cli {
namespace {

apply::Outcome revert_named(pid_t pid, const std::string& name, const apply::Options& options) {
  proc::Process process = proc::Process::open(pid);
  apply::Outcome outcome{.pid = pid, .program = process.program(), .patch_id = name};
  try {
    return apply::revert(pid, find_patch_id(apply::list(process), name), options);
  } catch (const Refused& r) {
    outcome.verdict = apply::Verdict::NotApplied;
    outcome.refusals = r.findings();
    return outcome;
  }
}

}  // namespace

Command add_revert(CLI::App& app) {
  struct Arguments {
    std::string id, timeout = "10s", hook_timeout;
    ProcessSelection processes;
    bool json = false;
  };
  auto args = std::make_shared<Arguments>();
  CLI::App* sub = app.add_subcommand("revert", "Take a patch out of processes");
  sub->add_option("id", args->id, "Patch id (any unique prefix) or CVE id")->required();
  args->processes.add_options(*sub);
  sub->add_option("--timeout", args->timeout, "How long to try while a thread is inside")
      ->capture_default_str();
  add_hook_timeout(*sub, args->hook_timeout);
  sub->add_flag("--json", args->json, "Machine-readable output");
  return {sub, [args] {
            apply::Options options;
            options.timeout = parse_duration(args->timeout);
            options.hook_timeout = parse_hook_timeout(args->hook_timeout);
            return report_results(
                for_each_process(args->processes,
                                 [&](pid_t pid) { return revert_named(pid, args->id, options); }),
                args->json);
          }};
}

}  // namespace qp::cli
