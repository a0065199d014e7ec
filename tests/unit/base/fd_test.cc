#include "base/fd.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <fstream>

#include <gtest/gtest.h>

#include "base/error.h"

namespace qp {
namespace {

// Claim: a file that can't be opened is an Error that names it, with the kernel's words.
TEST(ReadFile, MissingFileIsNamed) {
  try {
    read_file("/nonexistent/file");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), "system");
    EXPECT_EQ(e.on(), "/nonexistent/file");
    EXPECT_EQ(e.said(), "No such file or directory");
    EXPECT_EQ(e.exit_code(), ExitCode::Failure);
  }
}

// Claim: files of /proc, whose st_size is 0, are read whole.
TEST(ReadFile, ProcFilesAreReadWhole) {
  EXPECT_NE(read_text("/proc/self/maps").size(), 0u);
}

// Claim: a file larger than the limit is refused instead of filling the memory.
TEST(ReadFile, LimitIsKept) {
  TempDir dir("qp-test-");
  write_file(dir.path() / "f", as_bytes("0123456789"));
  EXPECT_EQ(read_file(dir.path() / "f", 10).size(), 10u);
  EXPECT_THROW(read_file(dir.path() / "f", 9), Error);
  EXPECT_THROW(read_file("/dev/zero", 1 << 20), Error);
}

// Claim: write_file replaces a file whole: another name of the old one keeps the old content.
TEST(WriteFile, ReplacesInsteadOfOverwriting) {
  TempDir dir("qp-test-");
  write_file(dir.path() / "f", as_bytes("old"));
  std::filesystem::create_hard_link(dir.path() / "f", dir.path() / "other");
  write_file(dir.path() / "f", as_bytes("new"));
  EXPECT_EQ(read_text(dir.path() / "f"), "new");
  EXPECT_EQ(read_text(dir.path() / "other"), "old");
}

// Claim: a write that fails leaves nothing beside the file.
TEST(WriteFile, FailureLeavesNothing) {
  TempDir dir("qp-test-");
  std::filesystem::create_directory(dir.path() / "f");
  EXPECT_THROW(write_file(dir.path() / "f", as_bytes("x")), Error);
  auto entries = std::filesystem::directory_iterator(dir.path());
  EXPECT_EQ(std::distance(begin(entries), end(entries)), 1);
}

// Claim: a temporary directory goes away with its owner, with all that is in it.
TEST(TempDir, GoesAway) {
  std::filesystem::path path;
  {
    TempDir dir("qp-test-");
    path = dir.path();
    std::filesystem::create_directories(path / "a" / "b");
    std::ofstream(path / "a" / "b" / "c") << "x";
    TempDir moved(std::move(dir));
    EXPECT_TRUE(std::filesystem::exists(path));
  }
  EXPECT_FALSE(std::filesystem::exists(path));
}

// Claim: moving a descriptor closes the one that was there, and leaves one owner.
TEST(FdTest, OneOwner) {
  Fd a = open_file("/dev/null", O_RDONLY), b = open_file("/dev/null", O_RDONLY);
  int first = a.get(), second = b.get();
  a = std::move(b);
  EXPECT_EQ(a.get(), second);
  EXPECT_FALSE(b);
  EXPECT_EQ(::fcntl(first, F_GETFD), -1);
  EXPECT_EQ(::fcntl(second, F_GETFD), FD_CLOEXEC);
}

}  // namespace
}  // namespace qp
