// Which processes a command is about.
#pragma once

#include <set>
#include <string>
#include <vector>

#include <sys/types.h>
#include <CLI/CLI.hpp>

#include "proc/process.h"

namespace qp::cli {

inline constexpr int kMostPid = 1 << 22;  // PID_MAX_LIMIT, Linux include/linux/threads.h

struct ProcessSelection {
  std::vector<pid_t> pids, trees;
  bool all = false;
  std::string executable;

  void add_options(CLI::App& app);
  bool by_search() const { return all || !executable.empty() || !trees.empty(); }
  // The PIDs that were named, ascending. Throws Error{usage} if nothing was selected.
  std::vector<pid_t> named() const;
  // Throws Error{no-process} if a process named with --tree is not there, Error{no-program} if a path
  // named with --exe is that of no file and of no running program.
  void check_named() const;
  // The processes that are there now. `known`: those that an earlier search found; their
  // descendants count among the tree, also when its root has exited since.
  std::vector<proc::Running> search(const std::set<proc::Running>& known) const;
};

}  // namespace qp::cli
