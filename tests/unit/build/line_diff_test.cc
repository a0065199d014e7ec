#include "build/line_diff.h"

#include <random>

#include <gtest/gtest.h>

namespace qp::build {
namespace {

using Lines = std::vector<std::string_view>;

// Number of matched lines; checks on the way that matches are ascending and equal.
size_t checked(const Lines& a, const Lines& b) {
  auto out = match_lines(a, b);
  EXPECT_EQ(out.size(), b.size());
  size_t count = 0;
  std::optional<size_t> last;
  for (size_t i = 0; i < out.size(); ++i) {
    if (out[i]) {
      EXPECT_LT(*out[i], a.size());
      EXPECT_EQ(a[*out[i]], b[i]);
      EXPECT_TRUE(!last || *last < *out[i]);
      last = out[i];
      ++count;
    }
  }
  return count;
}

size_t longest_common(const Lines& a, const Lines& b) {
  std::vector<std::vector<size_t>> t(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 1; i <= a.size(); ++i) {
    for (size_t j = 1; j <= b.size(); ++j) {
      t[i][j] = a[i - 1] == b[j - 1] ? t[i - 1][j - 1] + 1 : std::max(t[i - 1][j], t[i][j - 1]);
    }
  }
  return t[a.size()][b.size()];
}

// Claim: a text has as many lines as newlines, and one more if something follows the last.
TEST(SplitLines, LastNewline) {
  EXPECT_EQ(split_lines("").size(), 0u);
  EXPECT_EQ(split_lines("a\nb\n"), (Lines{"a", "b"}));
  EXPECT_EQ(split_lines("a\n\nb"), (Lines{"a", "", "b"}));
}

// Claim: inserted, deleted and replaced lines are told from kept ones.
TEST(MatchLines, Simple) {
  EXPECT_EQ(checked({"a", "b", "c"}, {"a", "x", "b", "c"}), 3u);
  EXPECT_EQ(checked({"a", "b", "c"}, {"a", "c"}), 2u);
  EXPECT_EQ(checked({"a", "b", "c"}, {"a", "x", "c"}), 2u);
  EXPECT_EQ(checked({}, {"a"}), 0u);
  EXPECT_EQ(checked({"a"}, {}), 0u);
}

// Claim: as many lines as possible are matched (against the quadratic table), for random texts.
TEST(MatchLines, IsTheLongestCommonSubsequence) {
  std::mt19937 random(7);
  const Lines words = {"a", "b", "c", "d"};
  for (int round = 0; round < 500; ++round) {
    Lines a, b;
    for (unsigned i = random() % 12; i > 0; --i) {
      a.push_back(words[random() % words.size()]);
    }
    for (unsigned i = random() % 12; i > 0; --i) {
      b.push_back(words[random() % words.size()]);
    }
    EXPECT_EQ(checked(a, b), longest_common(a, b));
  }
}

// Claim: texts with nothing in common end soon and match nothing but their equal ends.
TEST(MatchLines, HopelessTextsEnd) {
  std::vector<std::string> texts;
  for (int i = 0; i < 20000; ++i) {
    texts.push_back(std::to_string(i));
  }
  Lines a = {"head"}, b = {"head"};
  a.insert(a.end(), texts.begin(), texts.begin() + 10000);
  b.insert(b.end(), texts.begin() + 10000, texts.end());
  EXPECT_EQ(checked(a, b), 1u);
}

}  // namespace
}  // namespace qp::build
