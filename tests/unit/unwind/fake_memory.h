// Memory of a test: a few ranges of words.
#pragma once

#include <algorithm>
#include <map>
#include <vector>

#include "base/memory_reader.h"

namespace qp::unwind {

class FakeMemory final : public MemoryReader {
 public:
  void put(uint64_t at, const std::vector<uint64_t>& words) {
    Bytes& bytes = ranges_[at];
    for (uint64_t w : words) {
      append(bytes, w);
    }
  }
  void put_bytes(uint64_t at, Bytes bytes) { ranges_[at] = std::move(bytes); }

  size_t read_some(LiveAddr at, ByteSpan out) const override {
    auto after = ranges_.upper_bound(at.value);
    if (after == ranges_.begin()) {
      return 0;
    }
    const auto& [start, bytes] = *std::prev(after);
    uint64_t offset = at.value - start;
    if (offset >= bytes.size()) {
      return 0;
    }
    size_t size = std::min<size_t>(out.size(), bytes.size() - offset);
    std::copy_n(bytes.begin() + static_cast<ptrdiff_t>(offset), size, out.begin());
    return size;
  }

 private:
  std::map<uint64_t, Bytes> ranges_;
};

}  // namespace qp::unwind
