// A process in a frozen control group runs nothing, not even a system call that we would lend it. How
// that looks from outside depends on the kind of hierarchy. The old freezer puts tasks into
// uninterruptible sleep, so that they answer no interrupt. In the unified hierarchy they look like
// sleepers and stop when told to, but a continued one runs back into the freezer before it reaches
// user mode: a borrowed thread would never come out of its call. So this is asked before a thread is
// borrowed, and where one does not stop.
//
// Freezing is inherited: cgroup.events and freezer.state tell the effective state, whichever
// ancestor was frozen (Linux Documentation/admin-guide/cgroup-v2.rst, "cgroup.freeze";
// cgroup-v1/freezer-subsystem.rst). A hierarchy that is not mounted here, or another part of it
// only, tells nothing; then the deadlines of borrow.cc and seized.cc have the last word.

#include "proc/cgroup.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "base/error.h"
#include "base/fd.h"
#include "proc/procfs.h"

namespace qp::proc {
namespace {

// The next part of `text` up to `separator`, which is taken off as well.
std::string_view take_until(std::string_view& text, char separator) {
  std::string_view out = text.substr(0, text.find(separator));
  text.remove_prefix(std::min(out.size() + 1, text.size()));
  return out;
}

bool has_word(std::string_view list, std::string_view word) {
  while (!list.empty()) {
    if (take_until(list, ',') == word) {
      return true;
    }
  }
  return false;
}

struct Mount {
  std::string_view root, point, type, options;
};

// "36 35 98:0 /root /mount/point rw,noatime shared:1 - type source options" (proc(5)). Names with
// spaces are escaped there, which no hierarchy's mount point has.
Mount parse_mount(std::string_view line) {
  Mount out;
  for (int field = 1; field <= 5; ++field) {
    std::string_view word = take_until(line, ' ');
    out.root = field == 4 ? word : out.root;
    out.point = field == 5 ? word : out.point;
  }
  size_t at = line.find(" - ");
  line.remove_prefix(at == std::string_view::npos ? line.size() : at + 3);
  out.type = take_until(line, ' ');
  take_until(line, ' ');
  out.options = line;
  return out;
}

// A group's directory below this mount, which can be that of a part of the hierarchy.
std::optional<std::string> directory(const Mount& mount, std::string_view group) {
  if (mount.root != "/") {
    if (!group.starts_with(mount.root)) {
      return std::nullopt;
    }
    group.remove_prefix(mount.root.size());
    if (!group.empty() && !group.starts_with('/')) {
      return std::nullopt;  // another group, whose name begins like that
    }
  }
  if (group.starts_with("/..")) {
    return std::nullopt;  // outside of our cgroup namespace (cgroup_namespaces(7))
  }
  std::string out = fmt::format("{}/{}", mount.point, group.substr(group.starts_with('/') ? 1 : 0));
  if (out.ends_with('/')) {
    out.pop_back();  // the root of the hierarchy
  }
  return out;
}

bool has_line(std::string_view text, std::string_view line) {
  while (!text.empty()) {
    if (take_until(text, '\n') == line) {
      return true;
    }
  }
  return false;
}

std::string read_small(const std::string& path) {
  Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::array<char, 4096> text;
  ssize_t n = fd ? ::read(fd.get(), text.data(), text.size()) : -1;
  return {text.data(), static_cast<size_t>(std::max<ssize_t>(n, 0))};
}

}  // namespace

std::vector<FreezerState> freezer_states(std::string_view cgroups, std::string_view mounts) {
  std::vector<FreezerState> out;
  while (!cgroups.empty()) {
    std::string_view line = take_until(cgroups, '\n');
    take_until(line, ':');  // its number
    std::string_view controllers = take_until(line, ':');
    const bool unified = controllers.empty();
    if (!unified && !has_word(controllers, "freezer")) {
      continue;
    }
    for (std::string_view left = mounts; !left.empty();) {
      const Mount mount = parse_mount(take_until(left, '\n'));
      const bool fits = unified ? mount.type == "cgroup2"
                                : mount.type == "cgroup" && has_word(mount.options, "freezer");
      if (!fits) {
        continue;
      }
      if (auto at = directory(mount, line)) {
        out.push_back(unified ? FreezerState{*at + "/cgroup.events", "frozen 1"}
                              : FreezerState{*at + "/freezer.state", "FROZEN"});
        break;
      }
    }
  }
  return out;
}

std::optional<std::string> find_freezing_cgroup(pid_t pid) {
  auto task = find_live_task(pid);
  auto cgroups = task ? read_task_file(pid, *task, "cgroup") : std::nullopt;
  if (!cgroups) {
    return std::nullopt;
  }
  auto mounts = read_task_file(::getpid(), ::getpid(), "mountinfo").value_or("");
  for (const FreezerState& state : freezer_states(*cgroups, mounts)) {
    if (has_line(read_small(state.path), state.frozen)) {
      return state.path.substr(0, state.path.rfind('/'));
    }
  }
  return std::nullopt;
}

void demand_not_frozen(pid_t pid) {
  if (auto cgroup = find_freezing_cgroup(pid)) {
    throw Error("cgroup-frozen", "can't work on", fmt::format("process {}", pid),
                fmt::format("it is frozen by its control group {}", printable(*cgroup)),
                ExitCode::Busy);
  }
}

}  // namespace qp::proc
