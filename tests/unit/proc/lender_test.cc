// A borrowed thread among more threads than there are processors.

#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <time.h>

#include <array>
#include <atomic>
#include <optional>
#include <span>
#include <thread>

#include <gtest/gtest.h>

#include "proc/borrow.h"
#include "proc/freeze.h"
#include "victim.h"

namespace qp::proc {
namespace {

using test::Shared;
using test::until;
using test::Victim;

// One counter for each thread; all of them count.
struct Crowd {
  std::array<std::atomic<uint64_t>, 256> counters{};
  size_t size = std::thread::hardware_concurrency() + 2;

  uint64_t sum() const {
    uint64_t out = 0;
    for (const auto& counter : counters) {
      out += counter;
    }
    return out;
  }
};

class Lender : public testing::Test {
 protected:
  void SetUp() override {
    if (crowd_->size > crowd_->counters.size()) {
      GTEST_SKIP() << "more processors than threads are ever held for one";
    }
    victim_.emplace([&](const auto& ready) {
      for (size_t i = 1; i < crowd_->size; ++i) {
        std::thread([&, i] { count(i); }).detach();
      }
      for (size_t i = 1; i < crowd_->size; ++i) {
        while (crowd_->counters[i] == 0) {
        }
      }
      ready();
      count(0);
    });
  }

  void expect_all_go_on() {
    for (size_t i = 0; i < crowd_->size; ++i) {
      const uint64_t then = crowd_->counters[i];
      until([&] { return crowd_->counters[i] > then; }, "it goes on");
    }
    victim_->expect_untouched();
  }

  pid_t pid() const { return victim_->pid(); }

  Shared<Crowd> crowd_;

 private:
  void count(size_t i) {
    for (;;) {
      ++crowd_->counters[i];
    }
  }

  std::optional<Victim> victim_;
};

// Claim: where more threads want to run than can, the others stand still while one makes system calls
// for us, and go on with it afterwards.
TEST_F(Lender, TheOthersStandStill) {
  const Process process = Process::open(pid());
  // On a host that has no processor for the process they may be let go before, so try again.
  until(
      [&] {
        auto thread = Borrowed::take(process);
        bool still = thread.has_value();
        for (int i = 0; still && i < 20; ++i) {
          EXPECT_EQ(thread->call(SYS_getpid), pid());
          for (pid_t tid : process.threads()) {
            still &= test::state_of(pid(), tid) == 't';
          }
        }
        return still;
      },
      "the others stand still");
  expect_all_go_on();
}

// Claim: not for a function of the program.
TEST_F(Lender, TheyRunWhileAFunctionDoes) {
  const Process process = Process::open(pid());
  auto thread = Borrowed::take(process, Borrowed::Use::Function);
  ASSERT_TRUE(thread);
  const uint64_t before = crowd_->sum();
  until([&] { return crowd_->sum() > before; }, "the others run");
  thread->give_back();
  expect_all_go_on();
}

// Claim: a call that does not end at once has them run on.
TEST_F(Lender, TheyRunWhileACallLasts) {
  const Process process = Process::open(pid());
  auto thread = Borrowed::take(process);
  ASSERT_TRUE(thread);
  ASSERT_TRUE(thread->scratch());
  const timespec time{.tv_sec = 0, .tv_nsec = 200'000'000};
  process.memory().write(*thread->scratch(), std::as_bytes(std::span(&time, 1)));
  const uint64_t before = crowd_->sum();
  EXPECT_EQ(thread->call(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, thread->scratch()->value, 0), 0);
  EXPECT_GT(crowd_->sum(), before);
  thread->give_back();
  expect_all_go_on();
}

// Claim: a thread that is handed over stays as it is when the others go on.
TEST_F(Lender, HandedOver) {
  const Process process = Process::open(pid());
  Frozen frozen = Frozen::freeze(process);
  const std::vector<pid_t> lendable = frozen.lendable();
  ASSERT_FALSE(lendable.empty());
  frozen.hand_over(lendable.front());
  frozen.thaw();
  const uint64_t before = crowd_->sum();
  until([&] { return crowd_->sum() > before; }, "the others go on");
  EXPECT_EQ(test::state_of(pid(), lendable.front()), 't');
  EXPECT_EQ(::ptrace(PTRACE_DETACH, lendable.front(), nullptr, nullptr), 0);
  expect_all_go_on();
}

}  // namespace
}  // namespace qp::proc
