// Which pages are in memory, of mappings that are mostly empty.

#include "proc/pagemap.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

namespace qp::proc {
namespace {

// Memory of this process; nothing of it is there until it is touched.
class Reserved {
 public:
  explicit Reserved(uint64_t size)
      : size_(size),
        start_(::mmap(nullptr, size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)) {
    EXPECT_NE(start_, MAP_FAILED);
    ::madvise(start_, size, MADV_NOHUGEPAGE);
  }
  Reserved(const Reserved&) = delete;
  Reserved& operator=(const Reserved&) = delete;
  ~Reserved() { ::munmap(start_, size_); }
  void touch(uint64_t offset) { static_cast<volatile char*>(start_)[offset] = 1; }
  LiveAddr at(uint64_t offset) const {
    return LiveAddr(reinterpret_cast<uint64_t>(start_)) + offset;
  }
  LiveRange range() const { return {at(0), at(size_)}; }

 private:
  uint64_t size_;
  void* start_;
};

// Claim: what is in memory is found in 32 TiB, without an entry read for each page (which would take
// minutes); neighbours are joined.
TEST(Pagemap, FewPagesOfATerabyte) {
  constexpr uint64_t kTiB = uint64_t{1} << 40;
  Reserved memory(32 * kTiB);
  for (uint64_t offset : {uint64_t{0}, 3 * kTiB, 3 * kTiB + kPageSize, 32 * kTiB - kPageSize}) {
    memory.touch(offset);
  }
  const Pagemap pagemap(Process::open(::getpid()));
  EXPECT_EQ(pagemap.resident(memory.range()),
            (std::vector<LiveRange>{{memory.at(0), memory.at(kPageSize)},
                                    {memory.at(3 * kTiB), memory.at(3 * kTiB + 2 * kPageSize)},
                                    {memory.at(32 * kTiB - kPageSize), memory.at(32 * kTiB)}}));
}

// Claim: the answer is clipped to the range, and complete where there is more than one buffer takes.
TEST(Pagemap, EveryOtherPage) {
  constexpr uint64_t kPages = 20'000;
  Reserved memory(kPages * kPageSize);
  for (uint64_t page = 0; page < kPages; page += 2) {
    memory.touch(page * kPageSize);
  }
  const Pagemap pagemap(Process::open(::getpid()));
  const auto found = pagemap.resident({memory.at(100), memory.at(kPages * kPageSize)});
  ASSERT_EQ(found.size(), kPages / 2);
  EXPECT_EQ(found.front(), (LiveRange{memory.at(100), memory.at(kPageSize)}));
  EXPECT_EQ(found.back(),
            (LiveRange{memory.at((kPages - 2) * kPageSize), memory.at((kPages - 1) * kPageSize)}));
}

}  // namespace
}  // namespace qp::proc
