// qpatch revert: takes a patch out of processes.

#include <algorithm>
#include <map>
#include <memory>

#include <fmt/format.h>

#include "apply/apply.h"
#include "cli/commands.h"
#include "cli/consistency.h"
#include "cli/duration.h"
#include "cli/hook_timeout.h"
#include "cli/outcomes.h"
#include "cli/patch_name.h"
#include "proc/process.h"

namespace qp::cli {
namespace {

constexpr const char* kAll = "all";

// The newest first. Stops where one stays.
apply::Outcome revert_all(const proc::Process& process, const apply::Options& options) {
  std::map<std::string, int64_t> since;
  for (const apply::Applied& a : apply::list(process)) {
    since[a.registry.patch_id] = a.registry.applied_at;
  }
  std::vector<std::string> ids;
  for (const auto& [id, time] : since) {
    ids.push_back(id);
  }
  std::stable_sort(ids.begin(), ids.end(),
                   [&](const auto& a, const auto& b) { return since[a] > since[b]; });
  apply::Outcome all{.pid = process.pid(), .program = process.program()};
  all.verdict = apply::Verdict::NotApplied;
  for (const std::string& id : ids) {
    apply::Outcome one = apply::revert(process.pid(), id, options);
    one.functions += all.functions;
    one.longest_pause = std::max(one.longest_pause, all.longest_pause);
    one.attempts += all.attempts;
    one.notes.insert(one.notes.begin(), all.notes.begin(), all.notes.end());
    one.failed_hooks.insert(one.failed_hooks.begin(), all.failed_hooks.begin(),
                            all.failed_hooks.end());
    const bool stays =
        one.verdict != apply::Verdict::Reverted && one.verdict != apply::Verdict::Recovered;
    if (stays && all.functions != 0) {
      one.notes.push_back(fmt::format("the patches before {} are reverted: {}", id, all.patch_id));
    }
    one.patch_id = stays || all.patch_id.empty() ? id : fmt::format("{}, {}", all.patch_id, id);
    all = std::move(one);
    if (stays) {
      break;
    }
  }
  return all;
}

apply::Outcome revert_named(pid_t pid, const std::string& name, const apply::Options& options) {
  proc::Process process = proc::Process::open(pid);
  if (name == kAll) {
    return revert_all(process, options);
  }
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
  struct RevertArguments {
    std::string id, timeout = "10s", hook_timeout;
    ProcessSelection processes;
    apply::Consistency consistency = apply::Consistency::Process;
    bool json = false;
  };
  auto args = std::make_shared<RevertArguments>();
  CLI::App* sub = app.add_subcommand("revert", "Take a patch out of processes");
  sub->add_option("id", args->id, "Patch id (any unique prefix), CVE id, or all")->required();
  args->processes.add_options(*sub);
  sub->add_option("--timeout", args->timeout, "How long to try while a thread is inside")
      ->capture_default_str();
  add_hook_timeout(*sub, args->hook_timeout);
  add_consistency(*sub, args->consistency);
  sub->add_flag("--json", args->json, "Machine-readable output");
  return {sub, [args] {
            apply::Options options;
            options.timeout = parse_duration(args->timeout);
            options.consistency = args->consistency;
            options.hook_timeout = parse_hook_timeout(args->hook_timeout);
            return report_results(
                for_each_process(args->processes,
                                 [&](pid_t pid) { return revert_named(pid, args->id, options); }),
                args->json);
          }};
}

}  // namespace qp::cli
