// qpatch recover: undoes what an interrupted run of qpatch began.

#include <memory>

#include "apply/apply.h"
#include "cli/commands.h"
#include "cli/duration.h"
#include "cli/outcomes.h"

namespace qp::cli {

Command add_recover(CLI::App& app) {
  struct RecoverArguments {
    std::string timeout = "10s";
    ProcessSelection processes;
    bool json = false;
  };
  auto args = std::make_shared<RecoverArguments>();
  CLI::App* sub = app.add_subcommand("recover", "Undo what an interrupted run left in processes");
  args->processes.add_options(*sub);
  sub->add_option("--timeout", args->timeout, "How long to try while a thread is inside")
      ->capture_default_str();
  sub->add_flag("--json", args->json, "Machine-readable output");
  return {sub, [args] {
            apply::Options options;
            options.timeout = parse_duration(args->timeout);
            return report_results(
                for_each_process(args->processes,
                                 [&](pid_t pid) { return apply::recover(pid, options); }),
                args->json);
          }};
}

}  // namespace qp::cli
