// While threads are stopped, everything waits for us, and we must not wait for others: on a busy
// host a tracer of ordinary priority is preempted by the very threads that it is stopping, one
// scheduling slice each. SCHED_FIFO makes that a factor of 30 (docs/performance.md). It is held
// only between the first INTERRUPT and the last DETACH; the kernel's throttling of real-time tasks
// (sched_rt_runtime_us) bounds what a bug could do.
//
// Before and after that we take turns with everybody else. In a process that computes on more threads
// than there are processors, that makes seconds out of 20 ms of work, in which nothing is applied and
// the process may be in another state than the one that was looked at. So a better nice value is
// taken for the whole transaction, one that leaves the others a share.
//
// Where SCHED_FIFO is refused (no CAP_SYS_NICE, a cgroup without real-time budget) a better nice
// value is tried, and else nothing is done: the pause gets longer, nothing gets wrong.

#include "proc/priority.h"

#include <sched.h>
#include <sys/resource.h>

#include <cerrno>

namespace qp::proc {
namespace {

constexpr int kBetterNice = -10;

struct Raised {
  int holders = 0;
  enum class How { Nothing, RealTime, Nice } how = How::Nothing;
  int old_policy = 0, old_nice = 0;
};
thread_local Raised raised;

}  // namespace

BetterNice::BetterNice() {
  errno = 0;
  better_ = ::getpriority(PRIO_PROCESS, 0) == 0 && errno == 0 &&
            ::setpriority(PRIO_PROCESS, 0, kBetterNice) == 0;
}

BetterNice::~BetterNice() {
  if (better_) {
    ::setpriority(PRIO_PROCESS, 0, 0);
  }
}

RaisedPriority::RaisedPriority() {
  if (raised.holders++ != 0) {
    return;
  }
  raised.how = Raised::How::Nothing;
  raised.old_policy = ::sched_getscheduler(0);
  if (raised.old_policy == SCHED_FIFO || raised.old_policy == SCHED_RR || raised.old_policy < 0) {
    return;
  }
  sched_param wanted{};
  wanted.sched_priority = ::sched_get_priority_max(SCHED_FIFO) - 1;  // below the kernel's own
  if (::sched_setscheduler(0, SCHED_FIFO, &wanted) == 0) {
    raised.how = Raised::How::RealTime;
    return;
  }
  errno = 0;
  raised.old_nice = ::getpriority(PRIO_PROCESS, 0);
  if (errno == 0 && ::setpriority(PRIO_PROCESS, 0, -20) == 0) {
    raised.how = Raised::How::Nice;
  }
}

RaisedPriority::~RaisedPriority() {
  if (--raised.holders != 0) {
    return;
  }
  if (raised.how == Raised::How::RealTime) {
    sched_param ordinary{};
    ::sched_setscheduler(0, raised.old_policy, &ordinary);  // the nice value was kept
  } else if (raised.how == Raised::How::Nice) {
    ::setpriority(PRIO_PROCESS, 0, raised.old_nice);
  }
}

}  // namespace qp::proc
