#include "apply/conclude.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "base/error.h"

namespace qp::apply {
namespace {

// What becomes of an outcome when this is thrown.
template <class Thrown>
Outcome conclude_with(const std::optional<proc::Process>& process, const Thrown& thrown) {
  Outcome outcome;
  try {
    throw thrown;
  } catch (...) {
    conclude(process, outcome);
  }
  return outcome;
}

const Refused kRefused({{"code-differs", "value", "it is another one"}});
const Error kFailed("system", "reading", "it", "no such process");

// Claim: findings about a process that lives are refusals, failures stay failures; of one that is gone
// nothing is told but that.
TEST(Conclude, WhatCountsOfAProcess) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::pause();
    ::_exit(0);
  }
  const std::optional<proc::Process> process = proc::Process::open(child);
  const Outcome refused = conclude_with(process, kRefused);
  EXPECT_EQ(refused.verdict, Verdict::Unpatchable);
  EXPECT_EQ(refused.refusals.size(), 1u);
  EXPECT_EQ(conclude_with(process, Refused({{"not-applied", "abc", ""}})).verdict,
            Verdict::NotApplied);
  EXPECT_THROW(conclude_with(process, kFailed), Error);
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  for (const Outcome& gone : {conclude_with(process, kRefused), conclude_with(process, kFailed),
                              conclude_with(process, Refused({{"not-applied", "abc", ""}}))}) {
    EXPECT_EQ(gone.verdict, Verdict::Gone);
    EXPECT_TRUE(gone.refusals.empty());
  }
  EXPECT_THROW(conclude_with(std::nullopt, kFailed), Error) << "it was never opened";
}

}  // namespace
}  // namespace qp::apply
