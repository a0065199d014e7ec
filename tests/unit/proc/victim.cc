// Victims are forked from the test, so that both see the same functions and Shared values at the
// same addresses. They die with the test.

#include "victim.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "proc/procfs.h"

namespace qp::test {

Victim::Victim(const Body& body) {
  int fds[2];
  if (::pipe2(fds, O_CLOEXEC) != 0) {
    std::abort();
  }
  pid_ = ::fork();
  if (pid_ == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::close(fds[0]);
    body([fd = fds[1]] {
      char byte = 'r';
      if (::write(fd, &byte, 1) != 1) {
        std::abort();
      }
    });
    ::_exit(0);
  }
  ::close(fds[1]);
  char byte = 0;
  ssize_t n;
  do {
    n = ::read(fds[0], &byte, 1);
  } while (n < 0 && errno == EINTR);
  ::close(fds[0]);
  EXPECT_EQ(n, 1) << "the victim ended before it was ready";
}

Victim::~Victim() {
  ::kill(pid_, SIGKILL);
  int status;
  while (::waitpid(pid_, &status, __WALL) < 0 && errno == EINTR) {
  }
}

void Victim::expect_untouched() const {
  for (pid_t tid : proc::list_tasks(pid_)) {
    auto stat = proc::read_task_stat(pid_, tid);
    if (!stat || stat->dead()) {
      continue;
    }
    EXPECT_EQ(tracer_of(pid_, tid), 0) << tid;
    EXPECT_NE(stat->state, 't') << tid;
    EXPECT_NE(stat->state, 'T') << tid;
  }
}

void until(const std::function<bool()>& condition, const std::string& what) {
  auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) {
      FAIL() << "waited in vain until " << what;
    }
    ::sched_yield();
  }
}

char state_of(pid_t pid, pid_t tid) {
  auto stat = proc::read_task_stat(pid, tid);
  return stat ? stat->state : '\0';
}

bool sleeps(pid_t pid, pid_t tid, long number) {
  if (state_of(pid, tid) != 'S') {
    return false;
  }
  return number < 0 || proc::read_task_file(pid, tid, "syscall")
                           .value_or("")
                           .starts_with(fmt::format("{} ", number));
}

pid_t tracer_of(pid_t pid, pid_t tid) {
  auto status = proc::read_task_status(pid, tid);
  return status ? status->tracer : 0;
}

void spin() {
  for (;;) {
    asm volatile("pause");
  }
}

void sleep_for_ever() {
  for (;;) {
    ::pause();
  }
}

void just_spin(const std::function<void()>& ready) {
  ready();
  spin();
}

void just_sleep(const std::function<void()>& ready) {
  ready();
  sleep_for_ever();
}

pid_t this_tid() {
  return static_cast<pid_t>(::syscall(SYS_gettid));
}

}  // namespace qp::test
