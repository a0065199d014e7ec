// --pid names processes; --all means every process that uses the target; --exe those that run a
// program. With the last two, processes that do not use the target are passed over without noise:
// the commands drop them by their refusal `not-in-process`.

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

}  // namespace

void ProcessSelection::add_options(CLI::App& app) {
  auto* by_pid = app.add_option("--pid", pids, "Process id; repeat for several")
                     ->check(CLI::Range(1, kMostPid));
  auto* by_all = app.add_flag("--all", all, "Every process that uses the target");
  auto* by_exe = app.add_option("--exe", executable, "Every process that runs this program");
  by_pid->excludes(by_all)->excludes(by_exe);
  by_all->excludes(by_exe);
}

std::vector<pid_t> ProcessSelection::resolve() const {
  if (!by_search()) {
    if (pids.empty()) {
      throw Error("usage", "selecting processes", "", "give --pid N, --exe PATH or --all",
                  ExitCode::Usage);
    }
    std::vector<pid_t> out = pids;
    std::sort(out.begin(), out.end());
    out.erase(std::unique(out.begin(), out.end()), out.end());
    return out;
  }
  std::vector<pid_t> out;
  for (pid_t pid : proc::all_processes()) {
    if (executable.empty()) {
      out.push_back(pid);
      continue;
    }
    try {
      if (runs(proc::Process::open(pid), executable)) {
        out.push_back(pid);
      }
    } catch (const Error&) {
      continue;  // gone, or not ours to look at: it is not among the selected
    }
  }
  return out;
}

}  // namespace qp::cli
