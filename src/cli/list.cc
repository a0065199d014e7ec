// qpatch list (or status): what is applied, read from the processes themselves.

#include <algorithm>
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

// All images of one patch.
using Images = std::vector<const apply::Applied*>;

// In the order of the first image of each.
std::vector<Images> by_patch(const std::vector<apply::Applied>& applied) {
  std::vector<Images> out;
  for (const apply::Applied& a : applied) {
    const auto same = std::find_if(out.begin(), out.end(), [&](const Images& images) {
      return images.front()->registry.patch_id == a.registry.patch_id;
    });
    if (same == out.end() || a.registry.patch_id.empty()) {
      out.push_back({&a});
    } else {
      same->push_back(&a);
    }
  }
  return out;
}

bool is_interrupted(const Images& images) {
  return std::any_of(images.begin(), images.end(), [](const auto* a) { return a->interrupted; });
}

nlohmann::json patch_json(const Images& images) {
  const apply::Registry& first = images.front()->registry;
  auto functions = nlohmann::json::array(), targets = nlohmann::json::array(),
       faults = nlohmann::json::array();
  bool intact = true;
  for (const apply::Applied* a : images) {
    for (const apply::RegistryDetour& d : a->registry.detours) {
      functions.push_back({{"name", d.function},
                           {"file", d.file},
                           {"target", a->registry.target_name},
                           {"entry", fmt::format("{:#x}", d.entry.value)},
                           {"new", fmt::format("{:#x}", d.new_code.start.value)}});
    }
    targets.push_back({{"name", a->registry.target_name},
                       {"build_id", a->registry.target_build_id},
                       {"image", fmt::format("{:#x}", a->registry.image.start.value)}});
    intact &= a->intact;
    for (const std::string& fault : a->faults) {
      faults.push_back(fault);
    }
  }
  return {{"id", first.patch_id},
          {"cves", first.cves},
          {"description", first.description},
          {"target", first.target_name},
          {"build_id", first.target_build_id},
          {"targets", std::move(targets)},
          {"functions", std::move(functions)},
          {"applied_at", utc(first.applied_at)},
          {"intact", intact},
          {"interrupted", is_interrupted(images)},
          {"faults", std::move(faults)}};
}

void print_image(const apply::Applied& a, const char* indent) {
  for (const apply::RegistryDetour& d : a.registry.detours) {
    std::cout << fmt::format("{}{}{}  {:#x} -> {:#x}\n", indent, d.function,
                             d.file.empty() ? "" : fmt::format(" ({})", d.file), d.entry.value,
                             d.new_code.start.value);
  }
  for (const std::string& f : a.faults) {
    std::cout << fmt::format("{}fault: {}\n", indent, f);
  }
}

void print_tree(const proc::Process& process, const std::vector<apply::Applied>& patches) {
  std::cout << fmt::format("{} {}\n", process.pid(), process.program());
  for (const Images& images : by_patch(patches)) {
    const apply::Registry& first = images.front()->registry;
    const bool intact =
        std::all_of(images.begin(), images.end(), [](const auto* a) { return a->intact; });
    const bool interrupted = is_interrupted(images);
    const bool one = images.size() == 1;
    std::string cves = first.cves.empty() ? "" : fmt::format("  {}", fmt::join(first.cves, " "));
    std::cout << fmt::format(
        "  {}{}  {}  since {}{}\n", first.patch_id.empty() ? "?" : first.patch_id, cves,
        one ? first.target_name : fmt::format("{} images", images.size()), utc(first.applied_at),
        interrupted ? "  INTERRUPTED"
        : intact    ? ""
                    : "  DAMAGED");
    if (!first.description.empty()) {
      std::cout << fmt::format("    {}\n", first.description);
    }
    for (const apply::Applied* a : images) {
      if (!one) {
        std::cout << fmt::format("    {} at {:#x}\n", a->registry.target_name,
                                 a->registry.bias(LinkAddr(0)).value);
      }
      print_image(*a, one ? "    " : "      ");
    }
    if (interrupted) {
      std::cout << fmt::format("    half done: qpatch recover --pid {} undoes it\n", process.pid());
    }
  }
}

struct ListArguments {
  std::vector<pid_t> pids;
  bool json = false;
};

ExitCode list_processes(const ListArguments& args) {
  bool named = !args.pids.empty();
  auto listed = nlohmann::json::array();
  ExitCode code = ExitCode::Done;
  size_t unreadable = 0;
  size_t shown = 0;
  for (pid_t pid : named ? args.pids : proc::all_processes()) {
    try {
      proc::Process process = proc::Process::open(pid);
      std::vector<apply::Applied> patches = apply::list(process);
      if (!process.same_program()) {  // what was read by its number can be anybody's
        throw Error("no-process", "looking at", fmt::format("process {}", pid),
                    "it ended meanwhile");
      }
      for (const apply::Applied& a : patches) {
        code = a.intact ? code : ExitCode::NeedsRecover;
      }
      if (patches.empty() && !named) {
        continue;
      }
      if (args.json) {
        auto list = nlohmann::json::array();
        for (const Images& images : by_patch(patches)) {
          list.push_back(patch_json(images));
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
  auto args = std::make_shared<ListArguments>();
  CLI::App* sub = app.add_subcommand("list", "Patches in processes, read from the processes");
  sub->alias("status");
  sub->add_option("--pid", args->pids, "Only this process; repeat for several")
      ->check(CLI::Range(1, kMostPid));
  sub->add_flag("--json", args->json, "Machine-readable output");
  return {sub, [args] { return list_processes(*args); }};
}

}  // namespace qp::cli
