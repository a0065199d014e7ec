// The harness itself: a check that can't fail checks nothing. Each of these does to a victim what
// qpatch must not do, and demands that the harness sees it.

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "harness/live_case.h"

namespace qp::live {
namespace {

class Harness : public LiveCase {
 protected:
  uint64_t text_start(const Snapshot& of) { return of.text.begin()->first; }
  void write_memory(uint64_t at, const std::string& bytes) {
    const std::string path = "/proc/" + std::to_string(victim().pid()) + "/mem";
    const int memory = open(path.c_str(), O_RDWR | O_CLOEXEC);
    EXPECT_EQ(pwrite(memory, bytes.data(), bytes.size(), static_cast<off_t>(at)),
              static_cast<ssize_t>(bytes.size()));
    close(memory);
  }
};

// Claim: an untouched process shows no difference.
TEST_P(Harness, sees_nothing_where_nothing_is) {
  prepare();
  const Snapshot before = snapshot();
  EXPECT_EQ(victim().ask("call"), "6");
  EXPECT_EQ(left_behind(before, snapshot()), "");
  EXPECT_EQ(wrongly_applied(before, snapshot(), 0), "");
}

// Claim: one changed byte of text is seen, by both checks.
TEST_P(Harness, sees_a_changed_byte) {
  prepare();
  const Snapshot before = snapshot();
  const std::string old = before.text.begin()->second.substr(0, 1);
  write_memory(text_start(before), std::string(1, static_cast<char>(old[0] ^ 1)));
  EXPECT_NE(left_behind(before, snapshot()), "");
  EXPECT_NE(wrongly_applied(before, snapshot(), 0), "");
}

// Claim: a jump that leads to where there was code before is no detour.
TEST_P(Harness, sees_a_jump_into_old_code) {
  prepare();
  const Snapshot before = snapshot();
  write_memory(text_start(before), std::string("\xe9\x10\0\0\0", 5));  // jmp .+0x15
  EXPECT_NE(wrongly_applied(before, snapshot(), 1), "");
}

// Claim: a stopped process is seen.
TEST_P(Harness, sees_a_stopped_process) {
  prepare();
  const Snapshot before = snapshot();
  kill(victim().pid(), SIGSTOP);
  siginfo_t info;
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(victim().pid()), &info, WSTOPPED | WNOWAIT), 0);
  EXPECT_NE(left_behind(before, snapshot()), "");
  kill(victim().pid(), SIGCONT);
}

// Claim: a limit that was changed is seen.
TEST_P(Harness, sees_a_changed_limit) {
  prepare();
  const Snapshot before = snapshot();
  const rlimit limit{.rlim_cur = 4711, .rlim_max = 4712};
  ASSERT_EQ(prlimit(victim().pid(), RLIMIT_NOFILE, &limit, nullptr), 0);
  EXPECT_NE(left_behind(before, snapshot()), "");
}

// Claim: a victim that crashes is an exception that says so, not a hang.
TEST_P(Harness, says_that_a_victim_crashed) {
  prepare();
  kill(victim().pid(), SIGSEGV);
  EXPECT_THROW(victim().ask("call"), std::runtime_error);
}

// Claim: an id is found as a word only.
TEST(Names, match_whole_words) {
  EXPECT_TRUE(names("refused: busy: thread 7", "busy"));
  EXPECT_FALSE(names("busybox", "busy"));
  EXPECT_FALSE(names("not-busy", "busy"));
  EXPECT_FALSE(names("thread 4170", "417"));
}

INSTANTIATE_TEST_SUITE_P(Scenario, Harness,
                         testing::Values(scenario(QP_SCENARIOS, "stale_word").front()),
                         instance_name);

}  // namespace
}  // namespace qp::live
