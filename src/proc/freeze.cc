// The process as a whole: which of its attached threads count, and what can be done with them while all
// stand still. How they are stopped and let go is in seized.cc.

#include "proc/freeze.h"

#include <sys/ptrace.h>

#include "base/error.h"
#include "proc/function_call.h"
#include "proc/procfs.h"
#include "proc/seized.h"

namespace qp::proc {

Frozen::Frozen(Frozen&&) noexcept = default;

Frozen::~Frozen() {
  thaw();
}

Frozen Frozen::freeze(const Process& process) {
  if (auto straggler = Stragglers::sweep(process.pid())) {
    throw unresponsive(process.pid(), *straggler);
  }
  StopTimer::prepare();
  Frozen out;
  out.seized_ = std::make_unique<Seized>(process.pid());
  Seized& seized = *out.seized_;
  seized.seize_all();
  out.threads_.reserve(seized.tasks.capacity());
  if (!process.same_program()) {  // or its number is another process's by now
    out.gone_ = true;
    out.thaw();
    return out;
  }
  seized.stop_all();
  // From here on no thread of the process runs.
  for (const Task& task : seized.tasks) {
    if (task.state != Task::State::Stopped && task.state != Task::State::KernelOnly) {
      continue;
    }
    StoppedThread thread;
    thread.tid = task.tid;
    thread.registers = task.registers;
    thread.pending_signal = task.signal;
    thread.kernel_only = task.state == Task::State::KernelOnly;
    if (task.registers.rip == 0 && !thread.kernel_only) {
      // Some kernel workers can be attached to; a call of a null pointer looks the same.
      auto stat = read_task_stat(seized.pid, task.tid);
      thread.kernel_only = stat && stat->kernel_only();
    }
    out.threads_.push_back(thread);
  }
  if (seized.executed || out.threads_.empty()) {
    out.gone_ = true;
    out.threads_.clear();
    out.thaw();
  }
  return out;
}

// In a group stop a thread can be lent as well.
std::optional<std::pair<size_t, SavedThread>> Seized::find_lendable(const Process& process) const {
  for (const Choice choice : {Choice::First, Choice::Second, Choice::Last}) {
    for (size_t i = 0; i < tasks.size(); ++i) {
      const Task& task = tasks[i];
      if (task.state != Task::State::Stopped || !task.in_event_stop ||
          choice_for_call(task.registers) != choice) {
        continue;
      }
      auto saved = SavedThread::save(task.tid);
      if (saved && obstacle_to_call(process, task.tid, *saved).empty()) {
        return std::pair(i, std::move(*saved));
      }
    }
  }
  return std::nullopt;
}

bool Frozen::can_call(const Process& process) const {
  QP_ASSERT(seized_);
  return seized_->find_lendable(process).has_value();
}

std::optional<CallEnd> Frozen::call(const Process& process, const FunctionCall& call) {
  QP_ASSERT(seized_);
  const auto lent = seized_->find_lendable(process);
  if (!lent) {
    return std::nullopt;
  }
  Task& task = seized_->tasks[lent->first];
  CallEnd end{.kind = CallEnd::Kind::Gone};
  if (::ptrace(PTRACE_SETOPTIONS, task.tid, nullptr, PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEEXEC) ==
      0) {
    end = call_function(process, task.tid, lent->second, call);
  }
  if (end.kind == CallEnd::Kind::Stuck) {
    task.state = Task::State::Running;  // let_go() finds it running
  } else if (end.kind == CallEnd::Kind::Gone) {
    gone_ = true;
  }
  return end;
}

std::vector<pid_t> Frozen::lendable() const {
  QP_ASSERT(seized_);
  std::vector<pid_t> out;
  for (const bool sleeping : {true, false}) {
    for (const Task& task : seized_->tasks) {
      if (task.state == Task::State::Stopped && task.in_event_stop &&
          (static_cast<int64_t>(task.registers.orig_rax) >= 0) == sleeping) {
        out.push_back(task.tid);
      }
    }
  }
  return out;
}

void Frozen::hand_over(pid_t tid) {
  QP_ASSERT(seized_);
  std::erase_if(seized_->tasks, [&](const Task& task) { return task.tid == tid; });
}

void Frozen::thaw() {
  if (!seized_) {
    return;
  }
  Seized& seized = *seized_;
  bool was_stopped = seized.stopped_at != Clock::time_point{};
  seized.let_go();
  if (was_stopped) {
    pause_ = seized.released_at - seized.stopped_at;
    gone_ = gone_ || seized.released == 0;
  }
  seized_.reset();
}

}  // namespace qp::proc
