// qpatch list (or status): what is applied, read from the processes themselves.

#include <ctime>
#include <iostream>
#include <memory>

#include <fmt/chrono.h>
#include <fmt/format.h>

#include "apply/apply.h"
#include "cli/commands.h"
#include "cli/messages.h"
#include "cli/processes.h"
#include "proc/process.h"

namespace qp::cli {
namespace {

std::string utc(int64_t seconds) {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(static_cast<std::time_t>(seconds)));
}

nlohmann::json patch_json(const apply::Applied& a) {
  auto functions = nlohmann::json::array();
  for (const apply::RegistryDetour& d : a.registry.detours) {
    functions.push_back({{"name", d.function},
                         {"file", d.file},
                         {"entry", fmt::format("{:#x}", d.entry.value)},
                         {"new", fmt::format("{:#x}", d.new_code.start.value)}});
  }
  return {{"id", a.registry.patch_id},
          {"cves", a.registry.cves},
          {"description", a.registry.description},
          {"target", a.registry.target_name},
          {"build_id", a.registry.target_build_id},
          {"functions", std::move(functions)},
          {"applied_at", utc(a.registry.applied_at)},
          {"intact", a.intact},
          {"faults", a.faults}};
}

void print_tree(const proc::Process& process, const std::vector<apply::Applied>& patches) {
  std::cout << fmt::format("{} {}\n", process.pid(), process.program());
  for (const apply::Applied& a : patches) {
    std::string cves =
        a.registry.cves.empty() ? "" : fmt::format("  {}", fmt::join(a.registry.cves, " "));
    std::cout << fmt::format(
        "  {}{}  {}  since {}{}\n", a.registry.patch_id.empty() ? "?" : a.registry.patch_id, cves,
        a.registry.target_name, utc(a.registry.applied_at), a.intact ? "" : "  DAMAGED");
    if (!a.registry.description.empty()) {
      std::cout << fmt::format("    {}\n", a.registry.description);
    }
    for (const apply::RegistryDetour& d : a.registry.detours) {
      std::cout << fmt::format("    {}{}  {:#x} -> {:#x}\n", d.function,
                               d.file.empty() ? "" : fmt::format(" ({})", d.file), d.entry.value,
                               d.new_code.start.value);
    }
    for (const std::string& f : a.faults) {
      std::cout << fmt::format("    fault: {}\n", f);
    }
  }
}

struct Arguments {
  std::vector<pid_t> pids;
  bool json = false;
};

ExitCode list_processes(const Arguments& args) {
  bool named = !args.pids.empty();
  auto listed = nlohmann::json::array();
  ExitCode code = ExitCode::Done;
  size_t unreadable = 0;
  size_t shown = 0;
  for (pid_t pid : named ? args.pids : proc::all_processes()) {
    try {
      proc::Process process = proc::Process::open(pid);
      std::vector<apply::Applied> patches = apply::list(process);
      for (const apply::Applied& a : patches) {
        code = a.intact ? code : ExitCode::NeedsRecover;
      }
      if (patches.empty() && !named) {
        continue;
      }
      if (args.json) {
        auto list = nlohmann::json::array();
        for (const apply::Applied& a : patches) {
          list.push_back(patch_json(a));
        }
        listed.push_back(
            {{"pid", pid}, {"program", process.program()}, {"patches", std::move(list)}});
      } else if (patches.empty()) {
        std::cout << fmt::format("{} {}\n  no patches\n", pid, process.program());
      } else {
        print_tree(process, patches);
      }
      ++shown;
    } catch (const Error& e) {
      if (named) {
        throw;
      }
      unreadable += e.exit_code() == ExitCode::Permission ? 1 : 0;  // else: it exited meanwhile
    }
  }
  if (args.json) {
    print_json({{"processes", std::move(listed)}, {"not_permitted", unreadable}});
  } else if (shown == 0) {
    std::cerr << "qpatch: no process has a patch\n";
  }
  if (unreadable > 0) {
    std::cerr << fmt::format("qpatch: {} processes may not be looked at; run it as root\n",
                             unreadable);
  }
  return code;
}

}  // namespace

Command add_list(CLI::App& app) {
  auto args = std::make_shared<Arguments>();
  CLI::App* sub = app.add_subcommand("list", "Patches in processes, read from the processes");
  sub->alias("status");
  sub->add_option("--pid", args->pids, "Only this process; repeat for several")
      ->check(CLI::Range(1, kMostPid));
  sub->add_flag("--json", args->json, "Machine-readable output");
  return {sub, [args] { return list_processes(*args); }};
}

}  // namespace qp::cli
