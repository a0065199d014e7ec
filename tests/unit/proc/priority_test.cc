#include "proc/priority.h"

#include <sys/resource.h>
#include <unistd.h>

#include <thread>

#include <gtest/gtest.h>

namespace qp::proc {
namespace {

// Claim: the better nice value of a transaction is for a while, survives a freeze in between, and is
// not put in place of one that somebody has chosen.
TEST(Priority, NiceValueIsGivenBack) {
  if (::getuid() != 0) {
    GTEST_SKIP() << "takes CAP_SYS_NICE";
  }
  const auto nice = [] { return ::getpriority(PRIO_PROCESS, 0); };
  std::thread([&] {
    ASSERT_EQ(::setpriority(PRIO_PROCESS, 0, 0), 0);
    {
      const BetterNice better;
      EXPECT_LT(nice(), 0);
      const int then = nice();
      { const RaisedPriority raised; }
      EXPECT_EQ(nice(), then);
    }
    EXPECT_EQ(nice(), 0);
    ASSERT_EQ(::setpriority(PRIO_PROCESS, 0, 5), 0);
    const BetterNice better;
    EXPECT_EQ(nice(), 5);
  }).join();
}

}  // namespace
}  // namespace qp::proc
