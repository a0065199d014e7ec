// qpatch apply: puts a patch into processes.

#include <memory>

#include "apply/apply.h"
#include "cli/commands.h"
#include "cli/consistency.h"
#include "cli/duration.h"
#include "cli/hook_timeout.h"
#include "cli/outcomes.h"
#include "cli/patch_name.h"
#include "format/file.h"

namespace qp::cli {

Command add_apply(CLI::App& app) {
  struct ApplyArguments {
    std::string file, timeout = "10s", hook_timeout;
    ProcessSelection processes;
    std::vector<std::string> replaces;
    apply::Consistency consistency = apply::Consistency::Process;
    bool memfd = false, json = false;
  };
  auto args = std::make_shared<ApplyArguments>();
  CLI::App* sub = app.add_subcommand("apply", "Put a patch into processes, all or nothing in each");
  sub->add_option("patch", args->file, "Patch file (NAME.qp)")->required();
  args->processes.add_options(*sub);
  sub->add_option("--timeout", args->timeout, "How long to try while a thread is inside")
      ->capture_default_str();
  add_hook_timeout(*sub, args->hook_timeout);
  sub->add_flag("--memfd", args->memfd, "Map the image from memory, not from a file");
  add_consistency(*sub, args->consistency);
  add_replace(*sub, args->replaces);
  sub->add_flag("--json", args->json, "Machine-readable output");
  return {sub, [args] {
            apply::Options options;
            options.timeout = parse_duration(args->timeout);
            options.hook_timeout = parse_hook_timeout(args->hook_timeout);
            options.consistency = args->consistency;
            options.map_from_memfd = args->memfd;
            format::PatchFile patch = format::open_patch(args->file);
            return report_results(for_each_process(args->processes,
                                                   [&](pid_t pid) {
                                                     options.replaces =
                                                         find_replaced(pid, args->replaces);
                                                     return apply::apply(pid, patch, options);
                                                   }),
                                  args->json);
          }};
}

}  // namespace qp::cli
