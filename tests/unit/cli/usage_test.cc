// What scripts rely on when a command is not even begun: exit codes, and which stream says what.

#include <cstdlib>

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/subprocess.h"

namespace qp {
namespace {

RunResult qpatch(std::vector<std::string> words) {
  const char* other = std::getenv("QPATCH");
  words.insert(words.begin(), other != nullptr ? other : QPATCH_PROGRAM);
  return run(words);
}

constexpr int kUsage = static_cast<int>(ExitCode::Usage);

// Claim: a command that is none, lacks something or has too much exits 2 and writes nothing to
// stdout.
TEST(Usage, ErrorsExitWithTwo) {
  const std::vector<std::vector<std::string>> lines = {{},
                                                       {"aply", "x.qp"},
                                                       {"build"},
                                                       {"build", "--compdb", "."},
                                                       {"apply"},
                                                       {"apply", "x.qp", "--no-such-option"},
                                                       {"apply", "x.qp", "--pid", "0"},
                                                       {"apply", "x.qp", "--pid", "1", "--all"},
                                                       {"revert"},
                                                       {"diff", "one.o"},
                                                       {"list", "--pid", "x"},
                                                       {"explain", "no-such-refusal"}};
  for (const auto& words : lines) {
    RunResult result = qpatch(words);
    std::string line = testing::PrintToString(words);
    EXPECT_EQ(result.exit_code, kUsage) << line;
    EXPECT_EQ(result.out, "") << line;
    EXPECT_NE(result.err, "") << line;
  }
}

// Claim: a mistyped command, option or id gets the one that was meant.
TEST(Usage, DidYouMean) {
  EXPECT_NE(qpatch({"aply", "x.qp"}).err.find("'apply'"), std::string::npos);
  EXPECT_NE(qpatch({"apply", "x.qp", "--timeot=2s"}).err.find("'--timeout'"), std::string::npos);
  EXPECT_NE(qpatch({"explain", "code-difers"}).err.find("'code-differs'"), std::string::npos);
}

// Claim: help is data: stdout, exit code 0.
TEST(Usage, HelpIsData) {
  for (const char* command : {"build", "diff", "info", "check", "apply", "revert", "list", "status",
                              "stacks", "map", "explain"}) {
    RunResult result = qpatch({command, "--help"});
    EXPECT_EQ(result.exit_code, 0) << command;
    EXPECT_NE(result.out, "") << command;
  }
}

// Claim: a file that can't be read is a failure, not a usage error.
TEST(Usage, MissingFileIsAFailure) {
  RunResult result = qpatch({"info", "/no/such/file.qp"});
  EXPECT_EQ(result.exit_code, static_cast<int>(ExitCode::Failure));
  EXPECT_NE(result.err.find("/no/such/file.qp"), std::string::npos);
}

// Claim: every --json output carries the schema version.
TEST(Usage, JsonHasItsSchema) {
  EXPECT_NE(qpatch({"explain", "--json"}).out.find("\"schema\": 1"), std::string::npos);
}

}  // namespace
}  // namespace qp
