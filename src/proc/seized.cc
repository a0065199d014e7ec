// Stopping a process without its noticing more than a short pause.
//
// The order keeps the pause short: everything slow is done while the process runs.
//   1. Seize every thread (PTRACE_SEIZE stops nobody), without options, so that a thread that makes
//      another one does not stop for us yet.
//   2. Take a real-time priority. The pause begins.
//   3. Interrupt all, then wait for each. They stop in parallel while we walk.
//   4. Look for threads that were born between the last look and the stop of their maker. Such a
//      thread is seized with PTRACE_O_TRACECLONE, which attaches its own children before they run
//      their first instruction: a chain of threads, each making the next, can't outrun us. Since
//      only running threads make threads, this ends. "No new thread" is the link count of
//      /proc/PID/task (Linux fs/proc/base.c: proc_task_getattr adds the number of threads): one
//      fstat, where reading the directory of 1000 threads takes longer than stopping them.
//   5. Detach all in a tight loop. The pause ends, the priority is given back.
//
// Who does not stop. A parent in vfork and a task in uninterruptible sleep answer no interrupt.
// They run no user code until they do, but we can't know when that is, so the others are let go at
// once and the caller hears "unresponsive" (and tries again). A traced thread can't be detached
// before it has stopped; one that still has not after a grace period, while its peers run, is left
// behind on a list of stragglers, which the next freeze looks at. It stops for as long as nobody
// looks, but the kernel lets go of it when our tracing thread ends: whoever freezes many processes
// does so from a thread per process or looks often.
//
// What is found, is left: a signal about to be delivered is handed over by the detach with its
// siginfo; a stopped process (SIGSTOP) falls back into its stop, since the kernel remembers it
// (Linux kernel/ptrace.c: __ptrace_unlink); calls that would say EINTR are started again
// (interrupted_call.cc). Other restarts are the kernel's business: no register is written.

#include "proc/seized.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include <fmt/format.h>

#include "proc/cgroup.h"
#include "proc/interrupted_call.h"
#include "proc/procfs.h"

namespace qp::proc {
namespace {

using namespace std::chrono_literals;

// A thread that can run gets this long to stop from the moment that we wait for it. It has to be
// scheduled first: 0.5 ms for 64 spinning threads on 2 cores, but 100 ms and more if the host is
// overloaded by others and the process has had its share (cgroups, autogroup). Then the process is
// used to such gaps, and giving up would only stop it again.
constexpr auto kRunningPatience = 250ms;
// One in uninterruptible sleep: threads that map and unmap wait for each other like that. Longer
// waits (a disk) are better spent with the others running.
constexpr auto kSleepingPatience = 10ms;
// For new threads to stop appearing while all that were known stand still.
constexpr auto kChasePatience = 200ms;
// After the others were let go: for a thread in uninterruptible sleep, and for one that only needs
// a processor. The second always gets there, and nobody is stopped by our waiting for it.
constexpr auto kGrace = 50ms;
constexpr auto kRunningGrace = 5s;
constexpr auto kReapPatience = 1000ms;

constexpr int kSeizeRounds = 4;
constexpr int kExecRounds = 10;
constexpr unsigned kLateOptions = PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC;

}  // namespace

Error unresponsive(pid_t pid, pid_t tid) {
  auto stat = read_task_stat(pid, tid);
  auto cgroup = find_freezing_cgroup(pid);
  return Error("unresponsive", "can't stop", fmt::format("thread {} of process {}", tid, pid),
               cgroup ? fmt::format("it is frozen by its control group {}", printable(*cgroup))
               : stat && stat->state == 'D'
                   ? "it is in an uninterruptible system call (vfork, disk)"
                   : "it gets no processor time",
               ExitCode::Busy);
}

bool Seized::knows(pid_t tid) const {
  return std::any_of(tasks.begin(), tasks.end(),
                     [&](const Task& t) { return t.tid == tid && t.state != Task::State::Gone; });
}

// The tasks of the directory that we don't have yet.
void Seized::seize_new(unsigned options) {
  std::vector<pid_t> known;
  known.reserve(tasks.size());
  for (const Task& t : tasks) {
    if (t.state != Task::State::Gone) {
      known.push_back(t.tid);
    }
  }
  std::sort(known.begin(), known.end());
  dead_leaders = 0;
  for (pid_t tid : list_tasks(pid)) {
    if (std::binary_search(known.begin(), known.end(), tid)) {
      continue;
    }
    switch (seize(pid, tid, options)) {
      case SeizeResult::Seized:
      case SeizeResult::AlreadyOurs:
        tasks.push_back({.tid = tid});
        break;
      case SeizeResult::KernelOnly:
        tasks.push_back({.tid = tid, .state = Task::State::KernelOnly});
        kernel_workers = true;
        break;
      case SeizeResult::Gone:
        dead_leaders += tid == pid ? 1 : 0;
        break;
      case SeizeResult::Traced:
        throw traced_error(pid, tid);
    }
  }
}

size_t Seized::count_threads() const {
  struct stat st {};
  return ::fstat(task_directory.get(), &st) == 0 && st.st_nlink >= 2 ? st.st_nlink - 2 : 0;
}

// That the directory lists no unknown thread proves nothing: readdir skips entries when others die
// under it. The count does, since no known thread dies unnoticed while it is stopped.
// Kernel workers however come and go by themselves, so that one that left could hide one that came:
// then it takes both, and the count before and after.
bool Seized::knows_all() const {
  auto known = static_cast<size_t>(std::count_if(
      tasks.begin(), tasks.end(), [](const Task& t) { return t.state != Task::State::Gone; }));
  size_t count = count_threads();
  if (!kernel_workers) {
    return count <= known + dead_leaders;  // less: killed meanwhile
  }
  std::vector<pid_t> listed = list_tasks(pid);
  return std::all_of(listed.begin(), listed.end(),
                     [&](pid_t tid) { return knows(tid) || (tid == pid && dead_leaders != 0); }) &&
         listed.size() == count && count_threads() == count;
}

void Seized::seize_all() {
  task_directory =
      Fd(::open(fmt::format("/proc/{}/task", pid).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!task_directory) {
    if (errno == ENOENT || errno == ESRCH) {
      return;  // gone
    }
    throw system_error("can't open", fmt::format("/proc/{}/task", pid), errno);
  }
  tasks.reserve(count_threads() * 2 + 64);
  // PTRACE_O_TRACEEXEC stops only him who calls exec, after which nothing is left to freeze.
  for (int round = 0; round < kSeizeRounds; ++round) {
    seize_new(PTRACE_O_TRACEEXEC);
    if (knows_all()) {
      break;
    }
  }
}

// A thread that a traced thread made: attached by the kernel, about to stop.
void Seized::born(pid_t tid) {
  if (tid == 0 || knows(tid)) {
    return;
  }
  if (::syscall(SYS_tgkill, pid, tid, 0) == 0) {
    tasks.push_back({.tid = tid});
    return;
  }
  // clone() without CLONE_THREAD: another process, none of our business.
  auto deadline = Clock::now() + kSleepingPatience;
  Stop stop = wait_for_stop(tid, tid, deadline, deadline);
  if (stop.stopped()) {
    detach(tid, stop.signal);
  } else {
    Stragglers::add(tid, tid);
  }
}

void Seized::await(size_t index) {
  auto now = Clock::now();
  pid_t tid = tasks[index].tid;
  Stop stop = wait_for_stop(pid, tid, now + kRunningPatience, stopped_at + kSleepingPatience);
  Task& task = tasks[index];
  switch (stop.kind) {
    case Stop::Kind::None:
      throw unresponsive(pid, tid);
    case Stop::Kind::Vanished:
      vanished = true;
      if (tid == pid) {
        dead_leaders = 1;
      } else {
        executed = true;
      }
      [[fallthrough]];
    case Stop::Kind::Gone:
      task.state = Task::State::Gone;
      return;
    case Stop::Kind::Exiting:
      task.state = Task::State::Exiting;
      return;
    default:
      break;
  }
  task.state = Task::State::Stopped;
  task.signal = stop.signal;
  task.in_event_stop = stop.kind == Stop::Kind::Event || stop.kind == Stop::Kind::Group;
  if (!get_registers(tid, task.registers)) {
    task.state = Task::State::Gone;  // killed meanwhile
    reap(tid, Clock::now() + kReapPatience);
    return;
  }
  if (stop.kind == Stop::Kind::Clone) {
    unsigned long child = 0;
    ::ptrace(PTRACE_GETEVENTMSG, tid, nullptr, &child);
    born(static_cast<pid_t>(child));  // `task` may dangle from here on
  } else if (stop.kind == Stop::Kind::Exec) {
    executed = true;
  }
}

void Seized::stop_all() {
  priority.emplace();
  StopTimer timer;
  stopped_at = Clock::now();
  size_t waited = 0;
  for (;;) {
    for (size_t i = waited; i < tasks.size(); ++i) {
      if (tasks[i].state == Task::State::Running) {
        interrupt(tasks[i].tid);
      }
    }
    for (; waited < tasks.size(); ++waited) {
      if (tasks[waited].state == Task::State::Running) {
        await(waited);
      }
    }
    if (executed || knows_all()) {
      break;
    }
    if (Clock::now() > stopped_at + kChasePatience) {
      throw unresponsive(pid, pid);
    }
    seize_new(kLateOptions);
  }
}

// Hands over what the thread was about to get. False if it is dead.
bool Seized::release(Task& task) {
  if (would_return_eintr(task.registers)) {
    restart_unless_signalled(pid, task.tid, task.registers, task.signal);
  }
  return detach(task.tid, task.signal);
}

// A seized thread that was not stopped: it can only be let go out of a stop.
void Seized::let_go_running(Task& task) {
  interrupt(task.tid);
  auto now = Clock::now();
  Stop stop = wait_for_stop(pid, task.tid, now + kRunningGrace, now + kGrace);
  if (stop.stopped()) {
    task.signal = stop.signal;
    if (get_registers(task.tid, task.registers)) {
      release(task);
    } else {
      reap(task.tid, Clock::now() + kReapPatience);
    }
  } else if (stop.kind == Stop::Kind::Vanished) {
    vanished = true;
  } else if (stop.kind != Stop::Kind::Gone) {
    Stragglers::add(pid, task.tid);
  }
  task.state = Task::State::Gone;
}

// When a thread calls exec, the others die and it takes the number of the leader: its own vanishes
// (for no other reason does a number other than the leader's), and a dead leader comes to life
// under our tracing, in an exec event that may still be to come.
void Seized::let_go_executed() {
  pid_t us = static_cast<pid_t>(::syscall(SYS_gettid));
  for (int round = 0; round < kExecRounds; ++round) {
    bool found = false;
    for (pid_t tid : list_tasks(pid)) {
      auto status = read_task_status(pid, tid);
      if (!status || status->tracer != us) {
        continue;
      }
      auto stat = read_task_stat(pid, tid);
      if (!stat || stat->dead()) {
        Stragglers::add(pid, tid);  // its end is ours to hear before its parent does
        continue;
      }
      Task task{.tid = tid};
      let_go_running(task);
      found = true;
    }
    if (!found) {
      return;
    }
  }
  Stragglers::add(pid, pid);
}

void Seized::let_go() noexcept {
  bool any_left = false;
  for (Task& task : tasks) {
    if (task.state == Task::State::Stopped && release(task)) {
      task.state = Task::State::Gone;
      ++released;
    }
    any_left |= task.state != Task::State::Gone && task.state != Task::State::KernelOnly;
  }
  released_at = Clock::now();
  priority.reset();
  if (!any_left && !vanished) {
    tasks.clear();
    return;
  }
  StopTimer timer;
  for (Task& task : tasks) {
    if (task.state == Task::State::Running || task.state == Task::State::Exiting) {
      let_go_running(task);
    }
  }
  // Killed while it stood still. The leader's end is told last.
  for (size_t i = tasks.size(); i-- > 0;) {
    if (tasks[i].state == Task::State::Stopped) {
      reap(tasks[i].tid, Clock::now() + kReapPatience);
    }
  }
  tasks.clear();
  if (vanished) {
    try {
      let_go_executed();
    } catch (const std::exception&) {
      Stragglers::add(pid, pid);
    }
  }
}

}  // namespace qp::proc
