// Processes that the administrator has frozen with a control group (docker pause, systemctl freeze).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <sys/types.h>

namespace qp::proc {

// The control group that keeps the process frozen, as a path below /sys/fs/cgroup or where else it
// is mounted. Nullopt: none that we can see.
std::optional<std::string> find_freezing_cgroup(pid_t pid);

// Throws Error{cgroup-frozen} (ExitCode::Busy) that names it, if there is one.
void demand_not_frozen(pid_t pid);

// What /proc/PID/cgroup and /proc/self/mountinfo say, without a look at any file: where the state of
// the process's freezer would be.
struct FreezerState {
  std::string path;    // of the file
  std::string frozen;  // what a frozen one contains, as a line
};
std::vector<FreezerState> freezer_states(std::string_view cgroups, std::string_view mounts);

}  // namespace qp::proc
