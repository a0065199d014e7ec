// qpatch stacks: who is inside the functions of a patch, with frames. The patch is named by id if it
// is applied (then both old and new code count), or by file if it is not.

#include <chrono>
#include <filesystem>
#include <iostream>
#include <memory>
#include <thread>

#include <fmt/format.h>

#include "apply/apply.h"
#include "cli/commands.h"
#include "cli/duration.h"
#include "cli/messages.h"
#include "cli/outcomes.h"
#include "cli/patch_name.h"
#include "cli/processes.h"
#include "format/file.h"
#include "proc/process.h"

namespace qp::cli {
namespace {

struct StacksArguments {
  std::string patch, timeout = "0ms";
  pid_t pid = 0;
  bool json = false;
};

std::vector<apply::NamedCode> code_of_file(const proc::Process& process, const std::string& file) {
  const format::PatchFile patch = format::open_patch(file);
  const std::vector<proc::Module> modules = process.modules();
  std::vector<apply::NamedCode> code;
  for (const format::Patch& part : patch.parts) {
    for (const proc::Module& module : modules) {
      if (module.build_id != part.meta.target_build_id) {
        continue;
      }
      for (const format::Replaced& r : part.replaced) {
        for (LinkRange range : r.ranges) {
          code.push_back({{module.bias(range.start), module.bias(range.end)}, r.name});
        }
      }
    }
  }
  if (code.empty()) {
    const format::Meta& first = patch.parts.front().meta;
    throw Refused({{"not-in-process", first.target_name,
                    fmt::format("no mapped file has build-id {}", first.target_build_id)}});
  }
  return code;
}

std::vector<apply::NamedCode> code_of_id(const proc::Process& process, const std::string& name) {
  std::vector<apply::Applied> applied = apply::list(process);
  std::string id = find_patch_id(applied, name);
  std::vector<apply::NamedCode> code;
  for (const apply::Applied& a : applied) {
    if (a.registry.patch_id != id) {
      continue;
    }
    if (a.interrupted) {
      std::cerr << fmt::format(
          "qpatch: {}: an interrupted run left {} half done; qpatch recover --pid {} undoes it\n",
          process.pid(), id, process.pid());
    }
    for (const apply::RegistryDetour& d : a.registry.detours) {
      for (const LiveRange range : d.old_code) {
        code.push_back({range, d.function});
      }
      code.push_back({d.new_code, d.function});
    }
    code.push_back({a.registry.image, ""});
  }
  return code;
}

void print_threads(const std::vector<apply::BusyThread>& threads) {
  for (const apply::BusyThread& t : threads) {
    std::cout << fmt::format("thread {} ({}) in {}: {}; {}\n", t.tid, t.name, t.function, t.reason,
                             tell_wait(t));
    for (const std::string& f : t.frames) {
      std::cout << "    " << f << '\n';
    }
  }
  if (threads.empty()) {
    std::cout << "nobody is inside\n";
  }
}

ExitCode run_stacks(const StacksArguments& args) {
  proc::Process process = proc::Process::open(args.pid);
  std::error_code ignored;
  bool is_file = std::filesystem::exists(args.patch, ignored);
  auto code = is_file ? code_of_file(process, args.patch) : code_of_id(process, args.patch);
  auto deadline = std::chrono::steady_clock::now() + parse_duration(args.timeout);
  std::vector<apply::BusyThread> threads = apply::stacks(args.pid, code);
  while (threads.empty() && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    threads = apply::stacks(args.pid, code);
  }
  if (!args.json) {
    print_threads(threads);
    return ExitCode::Done;
  }
  auto list = nlohmann::json::array();
  for (const apply::BusyThread& t : threads) {
    list.push_back({{"tid", t.tid},
                    {"name", t.name},
                    {"function", t.function},
                    {"reason", t.reason},
                    {"waits_for", t.waits_for},
                    {"frames", t.frames}});
  }
  print_json({{"pid", args.pid}, {"threads", std::move(list)}});
  return ExitCode::Done;
}

}  // namespace

Command add_stacks(CLI::App& app) {
  auto args = std::make_shared<StacksArguments>();
  CLI::App* sub = app.add_subcommand(
      "stacks", "Who is inside the functions that a patch replaces, with frames");
  sub->add_option("patch", args->patch, "Patch id or CVE id if it is applied, else a patch file")
      ->required();
  sub->add_option("--pid", args->pid, "Process id")->required()->check(CLI::Range(1, kMostPid));
  sub->add_option("--timeout", args->timeout, "How long to look until somebody is inside")
      ->capture_default_str();
  sub->add_flag("--json", args->json, "Machine-readable output");
  return {sub, [args] { return run_stacks(*args); }};
}

}  // namespace qp::cli
