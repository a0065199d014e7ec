// Which processes a command is about.
#pragma once

#include <string>
#include <vector>

#include <sys/types.h>
#include <CLI/CLI.hpp>

namespace qp::cli {

inline constexpr int kMostPid = 1 << 22;  // PID_MAX_LIMIT, Linux include/linux/threads.h

struct ProcessSelection {
  std::vector<pid_t> pids;
  bool all = false;
  std::string executable;

  void add_options(CLI::App& app);
  bool by_search() const { return all || !executable.empty(); }
  // The PIDs to work on, ascending. Throws Error{usage} if nothing was selected.
  std::vector<pid_t> resolve() const;
};

}  // namespace qp::cli
