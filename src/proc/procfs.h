// What /proc says about a task, as values. Everything in /proc is a race: a thread that is gone is
// a nullopt, not an error.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <sys/types.h>

#include "base/fd.h"

namespace qp::proc {

// From /proc/PID/task/TID/stat.
struct TaskStat {
  char state = '?';  // 'R', 'S', 'D', 'T' (group stop), 't' (traced), 'Z', 'X', 'I'
  pid_t parent = 0;
  uint64_t flags = 0;  // PF_* of the kernel
  int threads = 0;     // of the whole process
  uint64_t start = 0;  // in clock ticks since boot
  uint64_t stack = 0;  // where the program's first stack began; 0, 1: not told to us
  bool dead() const { return state == 'Z' || state == 'X'; }
  bool exiting() const { return (flags & 0x4) != 0; }  // PF_EXITING: runs no user code any more
  bool kernel_thread() const { return (flags & 0x0020'0000) != 0; }  // PF_KTHREAD
  // PF_IO_WORKER or PF_USER_WORKER (Linux include/linux/sched.h): io_uring and vhost workers.
  bool kernel_only() const { return (flags & (0x10 | 0x4000)) != 0; }
};

// From /proc/PID/task/TID/status. Signal sets have bit n−1 for signal n.
struct TaskStatus {
  pid_t tracer = 0;
  int seccomp = 0;  // 0 none, 1 strict, 2 filter
  uint64_t blocked = 0, ignored = 0, caught = 0;
};

// Content of /proc/PID/task/TID/NAME. Nullopt if the thread is gone; throws Error{system} if the
// kernel does not let us.
std::optional<std::string> read_task_file(pid_t pid, pid_t tid, const char* name);
std::optional<TaskStat> read_task_stat(pid_t pid, pid_t tid);
std::optional<TaskStatus> read_task_status(pid_t pid, pid_t tid);
TaskStat parse_stat(std::string_view text);
TaskStatus parse_status(std::string_view text);

// The value of an entry of the auxiliary vector that the kernel gave to the program (AT_* of
// <linux/auxvec.h>). Nullopt if it has none, or is gone.
std::optional<uint64_t> find_auxiliary(pid_t pid, uint64_t type);

// TIDs of the process, ascending; empty if it is gone.
std::vector<pid_t> list_tasks(pid_t pid);
// A thread whose /proc files still show the process: the leader unless it is dead, since a dead
// leader has no maps, mem or exe. Nullopt if no thread lives.
std::optional<pid_t> find_live_task(pid_t pid);

// Control characters and what is not ASCII-printable as \ooo, so that a hostile name can't move a
// terminal's cursor or forge a line. UTF-8 bytes (≥ 0x80) are kept.
std::string printable(std::string_view text);

}  // namespace qp::proc
