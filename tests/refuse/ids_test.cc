// The table of refusals (src/base/refusals.cc) against the tests and the command line: an id that
// no test provokes is a promise that nobody checks, and an id that `qpatch explain` can't explain
// leaves the user alone with it.
//
// A test says which id it provokes in a comment line of its own, `Refusal: ID`, in any file below
// test/ that a compiler reads. For directory cases the claim is checked against case.json as well,
// so that the comment can't outlive the expectation.

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <regex>
#include <set>

#include "base/report.h"
#include "harness/case.h"
#include "harness/workdir.h"

namespace qp::live {
namespace {
namespace fs = std::filesystem;

// id -> files that claim it.
std::map<std::string, std::vector<fs::path>> claimed_ids() {
  static const std::regex line_pattern(R"(^\s*(?://|#|\*|;)+\s*Refusal:\s*([a-z0-9-]+)\s*$)");
  static const std::set<std::string> kinds = {".cc", ".h", ".c", ".S", ".s", ".cmake", ".sh"};
  std::map<std::string, std::vector<fs::path>> claims;
  for (const auto& entry : fs::recursive_directory_iterator(QP_TEST_ROOT)) {
    if (!entry.is_regular_file() || kinds.count(entry.path().extension()) == 0) {
      continue;
    }
    std::ifstream in(entry.path());
    std::string line;
    std::smatch match;
    while (std::getline(in, line)) {
      if (std::regex_match(line, match, line_pattern)) {
        claims[match[1]].push_back(entry.path());
      }
    }
  }
  return claims;
}

// Claim: each refusal id is provoked by a test that says so.
TEST(RefusalIds, each_has_a_test) {
  const auto claims = claimed_ids();
  for (const RefusalKind& kind : all_refusals()) {
    EXPECT_TRUE(claims.count(std::string(kind.id)) != 0)
        << "no test says `Refusal: " << kind.id << "`";
  }
}

// Claim: no test claims an id that does not exist (any more).
TEST(RefusalIds, claimed_ones_exist) {
  std::set<std::string> known;
  for (const RefusalKind& kind : all_refusals()) {
    known.insert(std::string(kind.id));
  }
  for (const auto& [id, files] : claimed_ids()) {
    EXPECT_TRUE(known.count(id) != 0) << id << " in " << files.front();
  }
}

// Claim: a case that says `Refusal: ID` expects that id in its case.json.
TEST(RefusalIds, claimed_by_a_case_are_expected_by_it) {
  std::map<std::string, Case> cases;
  for (const Instance& instance : read_cases(QP_CASES)) {
    cases[instance.what.directory] = instance.what;
  }
  for (const auto& [id, files] : claimed_ids()) {
    for (const fs::path& file : files) {
      const auto found = cases.find(file.parent_path());
      if (found != cases.end()) {
        const std::vector<std::string>& expected = found->second.refusal->ids;
        EXPECT_TRUE(std::count(expected.begin(), expected.end(), id) == 1) << file << " " << id;
      }
    }
  }
}

// Claim: every id is unique and has a title, a reason, a remedy and an exit code that is not 0.
TEST(RefusalIds, are_complete) {
  std::set<std::string_view> seen;
  for (const RefusalKind& kind : all_refusals()) {
    EXPECT_TRUE(seen.insert(kind.id).second) << kind.id << " twice";
    EXPECT_FALSE(kind.title.empty() || kind.why.empty() || kind.remedy.empty()) << kind.id;
    EXPECT_NE(static_cast<int>(kind.exit_code), 0) << kind.id;
  }
}

// Claim: `qpatch explain ID` explains every id, and nothing that is none.
TEST(Explain, knows_every_id) {
  Workdir dir("Explain.knows_every_id");
  for (const RefusalKind& kind : all_refusals()) {
    const CommandResult result = dir.qpatch({"explain", std::string(kind.id)});
    EXPECT_EQ(result.exit_code, 0) << result.both();
    EXPECT_NE(result.out.find(kind.title), std::string::npos) << kind.id << ":\n" << result.out;
  }
  EXPECT_EQ(dir.qpatch({"explain", "no-such-id"}).exit_code, 2);
}

}  // namespace
}  // namespace qp::live
