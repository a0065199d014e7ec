// While threads are stopped, everything waits for us, and we must not wait for others: on a busy
// host a tracer of ordinary priority is preempted by the very threads that it is stopping, one
// scheduling slice each. SCHED_FIFO makes that a factor of 30 (docs/performance.md). It is held
// only between the first INTERRUPT and the last DETACH; the kernel's throttling of real-time tasks
// (sched_rt_runtime_us) bounds what a bug could do.
//
// Where SCHED_FIFO is refused (no CAP_SYS_NICE, a cgroup without real-time budget) a better nice
// value is tried, and else nothing is done: the pause gets longer, nothing gets wrong.

#include "proc/priority.h"

#include <sched.h>
#include <sys/resource.h>

#include <cerrno>

namespace qp::proc {

RaisedPriority::RaisedPriority() : old_policy_(::sched_getscheduler(0)) {
  if (old_policy_ == SCHED_FIFO || old_policy_ == SCHED_RR || old_policy_ < 0) {
    return;
  }
  sched_param wanted{};
  wanted.sched_priority = ::sched_get_priority_max(SCHED_FIFO) - 1;  // below the kernel's own
  if (::sched_setscheduler(0, SCHED_FIFO, &wanted) == 0) {
    how_ = How::RealTime;
    return;
  }
  errno = 0;
  old_nice_ = ::getpriority(PRIO_PROCESS, 0);
  if (errno == 0 && ::setpriority(PRIO_PROCESS, 0, -20) == 0) {
    how_ = How::Nice;
  }
}

RaisedPriority::~RaisedPriority() {
  if (how_ == How::RealTime) {
    sched_param ordinary{};
    ::sched_setscheduler(0, old_policy_, &ordinary);  // the nice value was kept
  } else if (how_ == How::Nice) {
    ::setpriority(PRIO_PROCESS, 0, old_nice_);
  }
}

}  // namespace qp::proc
