// --pid names processes; --all means every process that uses the target; --exe those that run a
// program; --tree a process and its descendants. With the last three, processes that do not use the
// target are passed over without noise: the commands drop them by their refusal `not-in-process`.
//
// A child whose parent has exited is given to another one, and nothing tells whose it was. So a tree is
// remembered: who was seen in it stays in it. One that was orphaned before anybody looked is not found
// (docs/limits.md); --all and --exe do not need to know.

#include "cli/processes.h"

#include <algorithm>
#include <filesystem>

#include <fmt/format.h>

#include "base/error.h"
#include "proc/process.h"

namespace qp::cli {
namespace {

// A path names one program; a bare name every program of that name. A process whose program was
// replaced on disk still runs what had the path.
bool runs(const proc::Process& process, const std::string& executable) {
  if (executable.find('/') == std::string::npos) {
    return process.program() == executable;
  }
  constexpr std::string_view kDeleted = " (deleted)";
  std::error_code error;
  std::string path = std::filesystem::read_symlink(proc::executable_path(process), error).string();
  if (path.ends_with(kDeleted)) {
    path.resize(path.size() - kDeleted.size());
  }
  return !error && path == std::filesystem::weakly_canonical(executable).string();
}

// Exec keeps number and start, so that the same process is known.
bool is_known(const proc::Running& process, const std::set<proc::Running>& known) {
  auto it = known.lower_bound({.pid = process.pid, .start = process.start});
  return it != known.end() && it->pid == process.pid && it->start == process.start;
}

std::vector<proc::Running> tree_of(std::vector<proc::Running> there,
                                   const std::vector<pid_t>& roots,
                                   const std::set<proc::Running>& known) {
  std::set<pid_t> inside;
  for (const proc::Running& process : there) {
    if (is_known(process, known) ||
        std::find(roots.begin(), roots.end(), process.pid) != roots.end()) {
      inside.insert(process.pid);
    }
  }
  // Children have larger numbers than their parents until the numbers go around.
  for (bool grew = true; grew;) {
    grew = false;
    for (const proc::Running& process : there) {
      grew |= inside.count(process.parent) != 0 && inside.insert(process.pid).second;
    }
  }
  std::erase_if(there, [&](const proc::Running& p) { return inside.count(p.pid) == 0; });
  return there;
}

}  // namespace

void ProcessSelection::add_options(CLI::App& app) {
  auto* by_pid = app.add_option("--pid", pids, "Process id; repeat for several")
                     ->check(CLI::Range(1, kMostPid));
  auto* by_all = app.add_flag("--all", all, "Every process that uses the target");
  auto* by_exe = app.add_option("--exe", executable, "Every process that runs this program");
  auto* by_tree = app.add_option("--tree", trees, "A process and all its descendants")
                      ->check(CLI::Range(1, kMostPid));
  by_pid->excludes(by_all)->excludes(by_exe)->excludes(by_tree);
  by_all->excludes(by_exe)->excludes(by_tree);
  by_exe->excludes(by_tree);
}

std::vector<pid_t> ProcessSelection::named() const {
  if (pids.empty()) {
    throw Error("usage", "selecting processes", "", "give --pid N, --tree N, --exe PATH or --all",
                ExitCode::Usage);
  }
  std::vector<pid_t> out = pids;
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

void ProcessSelection::check_named() const {
  for (pid_t root : trees) {
    proc::Process::open(root);
  }
  std::error_code error;
  if (executable.find('/') != std::string::npos && !std::filesystem::exists(executable, error) &&
      search({}).empty()) {
    throw Error("no-program", "selecting the processes that run", executable,
                "there is no such file, and no process runs one of that path", ExitCode::NoMatch);
  }
}

std::vector<proc::Running> ProcessSelection::search(const std::set<proc::Running>& known) const {
  std::vector<proc::Running> there = proc::running_processes();
  if (!trees.empty()) {
    return tree_of(std::move(there), trees, known);
  }
  if (executable.empty()) {
    return there;
  }
  std::vector<proc::Running> out;
  for (const proc::Running& process : there) {
    try {
      if (runs(proc::Process::open(process.pid), executable)) {
        out.push_back(process);
      }
    } catch (const Error&) {
      continue;  // gone, or not ours to look at: it is not among the selected
    }
  }
  return out;
}

}  // namespace qp::cli
