// The table of shadow variables, as a part of this program.

#include <pthread.h>
#include <signal.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include <qpatch/hooks.h>

namespace qp::build {
namespace {

void* object(uintptr_t n) {
  return reinterpret_cast<void*>(n * 48);
}
long* attach(uintptr_t n, unsigned long number, size_t size = sizeof(long)) {
  return static_cast<long*>(qpatch_shadow_attach(object(n), number, size));
}
long* get(uintptr_t n, unsigned long number) {
  return static_cast<long*>(qpatch_shadow_get(object(n), number));
}

// Claim: a variable is found by object and number, zeroed when it is new, kept until it is detached.
TEST(ShadowTable, KeepsWhatIsAttached) {
  constexpr uintptr_t kObjects = 3000;
  for (int round = 0; round < 3; ++round) {
    for (uintptr_t n = 1; n <= kObjects; ++n) {
      EXPECT_EQ(get(n, 1), nullptr);
      long* p = attach(n, 1, 8 + n % 200);
      ASSERT_NE(p, nullptr);
      ASSERT_EQ(reinterpret_cast<uintptr_t>(p) % 16, 0u);
      for (size_t i = 0; i < (8 + n % 200) / 8; ++i) {
        ASSERT_EQ(p[i], 0) << n;
        p[i] = static_cast<long>(n);
      }
      ASSERT_EQ(attach(n, 1), p);
    }
    for (uintptr_t n = 1; n <= kObjects; ++n) {
      ASSERT_NE(get(n, 1), nullptr) << n;
      ASSERT_EQ(*get(n, 1), static_cast<long>(n));
      ASSERT_EQ(get(n, 2), nullptr);
      ASSERT_EQ(qpatch_shadow_detach(object(n), 1), 1);
      ASSERT_EQ(qpatch_shadow_detach(object(n), 1), 0);
    }
  }
}

// Claim: one that is there and too small is not handed out, and an absurd size is refused.
TEST(ShadowTable, Sizes) {
  ASSERT_NE(attach(1, 11, 16), nullptr);
  EXPECT_EQ(attach(1, 11, 17), nullptr);
  EXPECT_EQ(attach(2, 11, ~0ul), nullptr);
  long* large = attach(3, 11, 1 << 20);
  ASSERT_NE(large, nullptr);
  large[(1 << 17) - 1] = 1;
  EXPECT_EQ(qpatch_shadow_detach(object(1), 11) + qpatch_shadow_detach(object(3), 11), 2);
}

// Claim: threads that attach, use and detach at the same time, also in signal handlers that interrupt
// them there, see one variable per object, and lose no count.
TEST(ShadowTable, ManyThreadsAndHandlers) {
  static std::atomic<long> handled;
  struct sigaction action {};
  action.sa_handler = [](int) {
    if (long* p = attach(7, 100 + static_cast<unsigned long>(handled % 5))) {
      __atomic_add_fetch(p, 1, __ATOMIC_RELAXED);
    }
    qpatch_shadow_detach(object(7), 100 + static_cast<unsigned long>(handled % 3));
    ++handled;
  };
  action.sa_flags = SA_RESTART;
  struct sigaction before {};
  ::sigaction(SIGALRM, &action, &before);
  itimerval often{{0, 200}, {0, 200}};
  ::setitimer(ITIMER_REAL, &often, nullptr);
  constexpr uintptr_t kObjects = 1000;
  constexpr int kThreads = 4, kRounds = 20;
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (uintptr_t t = 1; t <= kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int round = 0; round < kRounds; ++round) {
        for (uintptr_t n = 1; n <= kObjects; ++n) {
          __atomic_add_fetch(attach(n, 21), 1, __ATOMIC_RELAXED);
          long* own = attach(n, 30 + t);
          wrong += own == nullptr || *own != 0 ? 1 : 0;
          *own = 1;
          wrong += qpatch_shadow_detach(object(n), 30 + t) == 1 ? 0 : 1;
        }
      }
    });
  }
  for (std::thread& t : threads) {
    t.join();
  }
  itimerval never{};
  ::setitimer(ITIMER_REAL, &never, nullptr);
  ::sigaction(SIGALRM, &before, nullptr);
  EXPECT_EQ(wrong, 0);
  for (uintptr_t n = 1; n <= kObjects; ++n) {
    ASSERT_EQ(*get(n, 21), kThreads * kRounds) << n;
    qpatch_shadow_detach(object(n), 21);
  }
}

// Claim: a child that is forked while another thread is at work has the variables, and can make more.
TEST(ShadowTable, AfterFork) {
  *attach(1, 41) = 5;
  std::atomic<bool> enough = false;
  std::thread busy([&] {
    for (uintptr_t n = 1; !enough; ++n) {
      attach(n % 100, 42);
      qpatch_shadow_detach(object(n % 100), 42);
    }
  });
  for (int i = 0; i < 100; ++i) {
    const pid_t child = ::fork();
    if (child == 0) {
      ::alarm(20);
      long* p = attach(200, 43);
      ::_exit(p != nullptr && *p == 0 && get(1, 41) != nullptr && *get(1, 41) == 5 ? 0 : 1);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_EQ(status, 0);
  }
  enough = true;
  busy.join();
  qpatch_shadow_detach(object(1), 41);
}

}  // namespace
}  // namespace qp::build
