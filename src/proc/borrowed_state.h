// A thread that is away from its own work, and what brings it back. Private to proc: lender.cc finds the
// thread, borrow.cc makes it run.
#pragma once

#include <optional>
#include <vector>

#include <fmt/format.h>
#include <sys/ptrace.h>

#include "proc/borrow.h"
#include "proc/freeze.h"
#include "proc/priority.h"
#include "proc/saved_thread.h"
#include "proc/tracee.h"
#include "proc/way_home.h"

namespace qp::proc {

struct Borrowed::State {
  explicit State(const Process& p) : process(p), pid(p.pid()) {}

  const Process& process;
  pid_t pid, tid = 0;
  SavedThread saved;
  GeneralRegisters start{};  // of every call, but for its number and arguments
  std::optional<WayHome> home;
  enum class At { Event, Entry, Exit, Unknown, Dead } at = At::Event;
  int stop_signal = 0;  // SIGSTOP that came in the midst
  std::optional<RaisedPriority> priority;
  std::optional<Frozen> others;  // those that stand still meanwhile

  Error died() const {
    return Error("system", "a system call in", fmt::format("thread {} of process {}", tid, pid),
                 "the thread died");
  }
  void prepare(const std::optional<HomeCode>& home_code, LiveAddr syscall_at,
               const std::vector<Mapping>& mappings);
  bool set_out();
  Stop wait_soon();
  Stop wait_call();
  void run_to_syscall_stop(At then);
  void reach_event_stop();
};

inline bool resume(__ptrace_request how, pid_t tid, int signal) {
  return ::ptrace(how, tid, nullptr, static_cast<long>(signal)) == 0;
}

inline bool is_event(const Stop& stop) {
  return stop.kind == Stop::Kind::Event || stop.kind == Stop::Kind::Group;
}

}  // namespace qp::proc
