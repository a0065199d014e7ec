#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include <gtest/gtest.h>

#include "base/error.h"
#include "proc/freeze.h"
#include "proc/process.h"
#include "victim.h"

namespace qp::proc {
namespace {

using test::Victim;

// Somewhere in the text.
int some_function(int x) {
  return x + 1;
}

// Four pages, the third of which is not there; inherited by the victims.
class Pages : public testing::Test {
 protected:
  Pages() {
    at_ = static_cast<char*>(
        ::mmap(nullptr, 4 * kPageSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    std::memset(at_, 'a', 4 * kPageSize);
    std::memset(at_ + kPageSize, 'b', kPageSize);
    ::munmap(at_ + 2 * kPageSize, kPageSize);
  }
  ~Pages() override { ::munmap(at_, 4 * kPageSize); }
  LiveAddr page(int n) const { return LiveAddr(reinterpret_cast<uint64_t>(at_) + n * kPageSize); }
  char* at_;
};

// Claim: a read that runs into a gap returns what lies before it.
TEST_F(Pages, ReadStopsAtAGap) {
  Victim victim(test::just_sleep);
  Memory memory(victim.pid());
  Bytes out(4 * kPageSize);
  EXPECT_EQ(memory.read_some(page(0) + 16, out), 2 * kPageSize - 16);
  EXPECT_EQ(out[0], std::byte{'a'});
  EXPECT_EQ(out[kPageSize], std::byte{'b'});
  EXPECT_EQ(memory.read_some(page(2), out), 0u);
  EXPECT_EQ(memory.read_some(LiveAddr(0), out), 0u);
  EXPECT_EQ(memory.read_some(LiveAddr(~uint64_t{0} - 8), out), 0u);
}

// Claim: many pieces are read at once, and one that can't be read is told.
TEST_F(Pages, PiecesAreAllOrNothing) {
  Victim victim(test::just_sleep);
  Memory memory(victim.pid());
  std::vector<std::array<std::byte, 8>> room(3000);
  std::vector<Memory::Piece> pieces;
  for (size_t i = 0; i < room.size(); ++i) {
    pieces.push_back({page(i % 2 == 0 ? 0 : 1) + i, room[i]});
  }
  EXPECT_TRUE(memory.read_pieces(pieces));
  EXPECT_EQ(room[2998][7], std::byte{'a'});
  EXPECT_EQ(room[2999][0], std::byte{'b'});
  pieces[1500].at = page(2) - 4;
  EXPECT_FALSE(memory.read_pieces(pieces));
  pieces[1500].at = page(0);
  EXPECT_TRUE(memory.read_pieces(pieces));
}

// Claim: private read-only code can be written while the process is frozen; only that process has
// the change.
TEST_F(Pages, CodeIsWrittenPrivately) {
  Victim victim(test::just_sleep);
  Process process = Process::open(victim.pid());
  auto code = reinterpret_cast<uint64_t>(&some_function);
  LiveAddr at(code);
  std::array<std::byte, 5> before, after, wanted{};
  wanted.fill(std::byte{0xcc});
  ASSERT_TRUE(process.memory().try_read(at, before));
  Frozen frozen = Frozen::freeze(process);
  process.memory().write(at, wanted);
  ASSERT_TRUE(process.memory().try_read(at, after));
  EXPECT_EQ(after, wanted);
  process.memory().write(at, before);
  frozen.thaw();
  ASSERT_TRUE(process.memory().try_read(at, after));
  EXPECT_EQ(after, before);
  victim.expect_untouched();
}

// Claim: a write where nothing is mapped is an Error.
TEST_F(Pages, WriteIntoAGapThrows) {
  Victim victim(test::just_sleep);
  Memory memory(victim.pid());
  std::array<std::byte, 8> eight{};
  EXPECT_THROW(memory.write(page(2), eight), Error);
}

}  // namespace
}  // namespace qp::proc
