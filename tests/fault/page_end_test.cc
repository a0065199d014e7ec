// Writes that the death of qpatch cuts in two. The kernel writes page by page and may give up in between
// when the writer is killed; the test does the same to what a killed run has written.

#include <fcntl.h>
#include <unistd.h>

#include <csignal>

#include "harness/fault_point.h"
#include "harness/live_case.h"

namespace qp::live {
namespace {

class PageEnd : public LiveCase {
 protected:
  static constexpr uint64_t kTwo = 0x500ffe, kOne = 0x510fff, kPage = 4096, kJump = 5;

  void SetUp() override {
    LiveCase::SetUp();
    prepare();
    first_ = build_patch();
    before_ = snapshot();
  }
  void expect_answers(const char* one, const char* two) {
    EXPECT_EQ(victim().ask("1"), one);
    EXPECT_EQ(victim().ask("2"), two);
  }
  static std::string bytes_at(const Snapshot& snapshot, uint64_t at) {
    for (const auto& [start, bytes] : snapshot.text) {
      if (start <= at && at + kJump <= start + bytes.size()) {
        return bytes.substr(at - start, kJump);
      }
    }
    ADD_FAILURE() << "no code at " << at;
    return "";
  }
  void killed_at(const std::string& point, const std::string& verb, const std::string& what) {
    FaultPoint fault(point, "QPATCH_FAULT_KILL");
    EXPECT_EQ(on_victim(verb, what).exit_code, 128 + SIGKILL) << point;
  }
  // one() has what `from` has there on its first page, or else behind it.
  void cut(const Snapshot& from, bool first_page) {
    const uint64_t on_first = kPage - kOne % kPage;
    const std::string bytes = bytes_at(from, kOne);
    const int memory =
        open(("/proc/" + std::to_string(victim().pid()) + "/mem").c_str(), O_RDWR | O_CLOEXEC);
    const ssize_t written =
        first_page ? pwrite(memory, bytes.data(), on_first, kOne)
                   : pwrite(memory, bytes.data() + on_first, kJump - on_first, kOne + on_first);
    close(memory);
    EXPECT_GT(written, 0);
  }

  std::string first_;
  Snapshot before_;
};

// Claim: where two bytes of the entry are on the first page, nothing of it is written on the second.
TEST_P(PageEnd, is_not_crossed_where_two_bytes_do) {
  ASSERT_FALSE(HasFailure());
  expect_answers("11", "22");
  must("apply", first_);
  expect_answers("12", "23");
  const std::string old = bytes_at(before_, kTwo), now = bytes_at(snapshot(), kTwo);
  EXPECT_NE(old.substr(0, 2), now.substr(0, 2));
  EXPECT_EQ(old.substr(2), now.substr(2));
  must("revert", only_listed().id);
  expect_answers("11", "22");
  expect_untouched(before_);
}

// Claim: half a jump is known for what it is, and taken back: in an apply, in a revert, and where one
// patch was about to take the place of another.
TEST_P(PageEnd, half_a_jump_is_taken_back) {
  ASSERT_FALSE(HasFailure());
  const std::string second =
      build_patch(dir().path() / "second.patch", "second.qp", {"--supersedes", first_});
  for (const bool first_page : {false, true}) {
    SCOPED_TRACE(first_page);
    killed_at("commit.finish", "apply", first_);
    cut(before_, first_page);
    must("recover", "");
    expect_answers("11", "22");
    expect_untouched(before_);

    must("apply", first_);
    const Snapshot with_first = snapshot();
    killed_at("revert.finish", "revert", only_listed().id);
    cut(with_first, first_page);
    must("recover", "");
    expect_answers("11", "22");
    expect_untouched(before_);

    must("apply", first_);
    killed_at("commit.finish", "apply", second);
    cut(with_first, first_page);
    must("recover", "");
    expect_answers("12", "23");
    must("apply", second);
    expect_answers("13", "24");
    must("revert", only_listed().id);
    expect_untouched(before_);
    ASSERT_FALSE(HasFailure());
  }
}

INSTANTIATE_TEST_SUITE_P(Scenario, PageEnd, testing::ValuesIn(scenario(QP_SCENARIOS, "page_end")),
                         instance_name);

}  // namespace
}  // namespace qp::live
