#include "base/subprocess.h"

#include <sys/stat.h>

#include <fstream>

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/fd.h"

namespace qp {
namespace {

// Claim: both outputs and the exit code come back, also when both are far larger than a pipe.
TEST(Run, BigOutputsOnBothPipes) {
  RunResult r = run({"sh", "-c",
                     "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); "
                     "printf '%0100d' $i; printf '%0100d' $i >&2; done; exit 7"});
  EXPECT_EQ(r.exit_code, 7);
  EXPECT_EQ(r.out.size(), 300000u);
  EXPECT_EQ(r.err.size(), 300000u);
}

// Claim: no shell is involved: an argument arrives as it is.
TEST(Run, ArgumentsAreNotInterpreted) {
  EXPECT_EQ(run({"printf", "%s|", "a b", "$HOME", "*", ""}).out, "a b|$HOME|*||");
}

// Claim: a program that can't be started is an Error, not an exit code.
TEST(Run, MissingProgramIsAnError) {
  for (const char* name : {"no-such-program-here", "/no/such/program"}) {
    try {
      run({name});
      FAIL();
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), "system");
      EXPECT_EQ(e.on(), name);
    }
  }
}

// Claim: death by a signal is 128 + its number.
TEST(Run, SignalIsTold) {
  EXPECT_EQ(run({"sh", "-c", "kill -TERM $$"}).exit_code, 128 + 15);
}

// Claim: directory and environment are the program's; ours stay.
TEST(Run, DirectoryAndEnvironment) {
  RunOptions options;
  options.directory = "/";
  options.environment = {{"QP_TEST", "yes"}, {"LC_ALL", "C"}};
  EXPECT_EQ(run({"sh", "-c", "pwd; echo $QP_TEST"}, options).out, "/\nyes\n");
  EXPECT_EQ(std::getenv("QP_TEST"), nullptr);
}

// Claim: a working directory that does not exist is an Error that names it.
TEST(Run, MissingDirectoryIsAnError) {
  RunOptions options;
  options.directory = "/no/such/directory";
  try {
    run({"true"}, options);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.on(), "/no/such/directory");
  }
}

// Claim: a bound file shows the other content to the program, and to nobody else.
TEST(Run, BindIsPrivate) {
  if (!can_bind_mount()) {
    GTEST_SKIP() << "no mount namespaces here";
  }
  TempDir dir("qp-test-");
  std::ofstream(dir.path() / "original") << "original";
  std::ofstream(dir.path() / "patched") << "patched";
  RunOptions options;
  options.binds = {{dir.path() / "patched", dir.path() / "original"}};
  EXPECT_EQ(run({"cat", (dir.path() / "original").string()}, options).out, "patched");
  EXPECT_EQ(read_text(dir.path() / "original"), "original");
}

// Claim: an overlay adds a file, hides a file, and shows the rest; the directory stays as it is.
TEST(Run, OverlayAddsAndHides) {
  if (!can_overlay_mount()) {
    GTEST_SKIP() << "no overlays here";
  }
  TempDir dir("qp-test-");
  std::filesystem::path over = dir.path() / "a:b,c", layer = dir.path() / "layer";
  std::filesystem::create_directory(over);
  std::filesystem::create_directory(layer);
  std::ofstream(over / "kept") << "kept";
  std::ofstream(over / "hidden") << "hidden";
  std::ofstream(layer / "added") << "added";
  ASSERT_EQ(::mknod((layer / "hidden").c_str(), S_IFCHR | 0600, 0), 0);
  RunOptions options;
  options.overlays = {{layer, over}};
  options.directory = over;
  EXPECT_EQ(
      run({"sh", "-c", "echo *; cat added kept; touch x 2>/dev/null || echo ' read-only'"}, options)
          .out,
      "added kept\naddedkept read-only\n");
  EXPECT_FALSE(std::filesystem::exists(over / "added"));
  EXPECT_TRUE(std::filesystem::exists(over / "hidden"));
}

// Claim: a bind over a file that does not exist is an Error{mount-namespace} that names it.
TEST(Run, BindOverNothing) {
  if (!can_bind_mount()) {
    GTEST_SKIP() << "no mount namespaces here";
  }
  RunOptions options;
  options.binds = {{"/dev/null", "/no/such/file"}};
  try {
    run({"true"}, options);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), "mount-namespace");
    EXPECT_EQ(e.on(), "/no/such/file");
  }
}

}  // namespace
}  // namespace qp
