// qpatch check: would the patch go into these processes? Never writes.

#include <memory>

#include "apply/apply.h"
#include "cli/commands.h"
#include "cli/consistency.h"
#include "cli/duration.h"
#include "cli/outcomes.h"
#include "cli/patch_name.h"
#include "format/file.h"

namespace qp::cli {

Command add_check(CLI::App& app) {
  struct CheckArguments {
    std::string file, timeout = "0ms";
    ProcessSelection processes;
    std::vector<std::string> replaces;
    apply::Consistency consistency = apply::Consistency::Process;
    bool json = false;
  };
  auto args = std::make_shared<CheckArguments>();
  CLI::App* sub = app.add_subcommand(
      "check", "Tell per process whether the patch can be applied; nothing is written");
  sub->add_option("patch", args->file, "Patch file (NAME.qp)")->required();
  args->processes.add_options(*sub);
  sub->add_option("--timeout", args->timeout, "How long to look while a thread is inside")
      ->capture_default_str();
  add_consistency(*sub, args->consistency);
  add_replace(*sub, args->replaces);
  sub->add_flag("--json", args->json, "Machine-readable output");
  return {sub, [args] {
            apply::Options options;
            options.timeout = parse_duration(args->timeout);
            options.consistency = args->consistency;
            format::PatchFile patch = format::open_patch(args->file);
            return report_results(for_each_process(
                                      args->processes,
                                      [&](pid_t pid) {
                                        options.replaces = find_replaced(pid, args->replaces);
                                        return apply::check(pid, patch, options);
                                      },
                                      Looks::Once),
                                  args->json);
          }};
}

}  // namespace qp::cli
