// clone(CLONE_VM) without CLONE_THREAD makes a process that runs in the same memory: the child of a
// vfork or posix_spawn until it calls exec, the threads of old libraries, sandboxes. No list names
// them, they need not be children, and whoever stops all threads of one of the two has not stopped
// the other, which could be inside the very bytes that are overwritten.
//
// kcmp(2) tells whether two tasks have the same memory. Asking it about every process takes a
// fraction of a millisecond, so that is done while the process runs. What is left to be looked at
// when it stands still are those made in between: numbers are given out in ascending order, and
// /proc/loadavg ends with the one given last (Linux fs/proc/loadavg.c: the cursor of the PID
// namespace's IDR). If it went around or far, everybody is asked again.
//
// Where kcmp is not allowed (a seccomp filter of a container), equal maps count as a peer: a peer
// has the same maps at any time. A child that was forked and has changed nothing yet has them too;
// it is refused then, which is the safe side.
//
// Kernel threads that work on the memory (vhost) are equal to kcmp, and run no code of it.

#include "proc/peers.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>

#include "base/error.h"
#include "proc/procfs.h"

namespace qp::proc {
namespace {

constexpr uint64_t kFewNew = 1024;

long compare_memory(pid_t a, pid_t b) {
  return ::syscall(SYS_kcmp, a, b, KCMP_VM, 0, 0);
}

bool may_compare() {
  static const bool may = compare_memory(::getpid(), ::getpid()) == 0;
  return may;
}

bool equal_maps(pid_t a, pid_t b) {
  // Read again: one that changed in between tells nothing about the other.
  for (int attempt = 0; attempt < 3; ++attempt) {
    const auto first = read_task_file(a, a, "maps");
    const auto other = read_task_file(b, b, "maps");
    if (!first || first->empty() || !other || other->empty()) {
      return false;
    }
    if (read_task_file(a, a, "maps") == first) {
      return first == other;
    }
  }
  return true;
}

uint64_t newest_number(const Fd& file) {
  std::array<char, 128> text;
  const ssize_t n = ::pread(file.get(), text.data(), text.size() - 1, 0);
  if (n <= 0) {
    throw system_error("can't read", "/proc/loadavg", n < 0 ? errno : EIO);
  }
  text[static_cast<size_t>(n)] = '\0';
  return std::strtoull(std::string_view(text.data()).rfind(' ') + text.data(), nullptr, 10);
}

}  // namespace

// `own`: a living thread of the process.
bool PeerSearch::is_peer(pid_t own, pid_t other) const {
  if (may_compare() ? compare_memory(own, other) != 0 : !equal_maps(own, other)) {
    return false;
  }
  if (other == own || ::syscall(SYS_tgkill, pid_, other, 0) == 0) {
    return false;  // its own thread
  }
  // The dead have no memory either, and neither do kernel threads.
  const auto stat = read_task_stat(other, other);
  const auto ours = read_task_stat(pid_, own);
  return stat && ours && !stat->kernel_thread() && !stat->dead() && !ours->dead();
}

std::optional<pid_t> PeerSearch::find_among_all() const {
  const std::optional<pid_t> own = find_live_task(pid_);
  std::unique_ptr<DIR, int (*)(DIR*)> directory(::opendir("/proc"), ::closedir);
  if (!directory) {
    throw system_error("can't open", "/proc", errno);
  }
  while (const dirent* entry = own ? ::readdir(directory.get()) : nullptr) {
    const auto other = static_cast<pid_t>(std::strtol(entry->d_name, nullptr, 10));
    if (other > 0 && other != pid_ && is_peer(*own, other)) {
      return other;
    }
  }
  return std::nullopt;
}

std::optional<pid_t> PeerSearch::find() {
  if (!last_made_) {
    last_made_ = open_file("/proc/loadavg", O_RDONLY);
  }
  const uint64_t newest = newest_number(last_made_);
  std::optional<pid_t> found;
  if (!alone_at_ || newest < *alone_at_ || newest - *alone_at_ > kFewNew) {
    found = find_among_all();
  } else if (newest != *alone_at_) {
    const std::optional<pid_t> own = find_live_task(pid_);
    for (uint64_t other = *alone_at_ + 1; own && !found && other <= newest; ++other) {
      if (is_peer(*own, static_cast<pid_t>(other))) {
        found = static_cast<pid_t>(other);
      }
    }
  }
  alone_at_ = found ? std::nullopt : std::optional(newest);
  return found;
}

}  // namespace qp::proc
