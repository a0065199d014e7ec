// The threads of a process that are attached to, stopped, and let go. Private to proc.
#pragma once

#include <optional>
#include <utility>
#include <vector>

#include <sys/types.h>

#include "base/error.h"
#include "base/fd.h"
#include "proc/freeze.h"
#include "proc/priority.h"
#include "proc/saved_thread.h"
#include "proc/tracee.h"

namespace qp::proc {

struct Task {
  pid_t tid = 0;
  // Exiting ones are attached and counted; they run no user code.
  enum class State { Running, Stopped, Exiting, Gone, KernelOnly } state = State::Running;
  int signal = 0;
  bool in_event_stop = false;  // in no signal's and no call's: can be lent
  GeneralRegisters registers{};
};

Error unresponsive(pid_t pid, pid_t tid);

struct Seized {
  explicit Seized(pid_t p) : pid(p) {}
  ~Seized() { let_go(); }

  // While the process runs. Throws.
  void seize_all();
  // Throws Error{unresponsive}, Error{traced}.
  void stop_all();
  // Never throws. Afterwards no thread is attached.
  void let_go() noexcept;

  void seize_new(unsigned options);
  void await(size_t index);
  void born(pid_t tid);
  bool knows(pid_t tid) const;
  size_t count_threads() const;
  bool knows_all() const;
  void let_go_running(Task& task);
  void let_go_executed();
  bool release(Task& task);
  std::optional<std::pair<size_t, SavedThread>> find_lendable(const Process& process) const;

  pid_t pid;
  Fd task_directory;
  std::vector<Task> tasks;
  size_t dead_leaders = 0;  // counted by the kernel, never to run again: 0 or 1
  bool kernel_workers = false;
  bool executed = false, vanished = false;
  size_t released = 0;
  std::optional<RaisedPriority> priority;
  Clock::time_point stopped_at{}, released_at{};
};

}  // namespace qp::proc
