#include "proc/code_search.h"

#include <algorithm>

namespace qp::proc {

std::optional<LiveAddr> find_code(const Memory& memory, LiveRange range,
                                  std::span<const uint8_t> pattern) {
  constexpr uint64_t kChunk = 64 << 10;
  Bytes bytes(std::min(range.size(), kChunk));
  for (LiveAddr at = range.start; at + pattern.size() <= range.end;) {
    size_t want = std::min<uint64_t>(bytes.size(), static_cast<uint64_t>(range.end - at));
    size_t got = memory.read_some(at, ByteSpan(bytes).first(want));
    auto end = bytes.begin() + static_cast<std::ptrdiff_t>(got);
    auto hit = std::search(bytes.begin(), end, pattern.begin(), pattern.end(),
                           [](std::byte have, uint8_t byte) { return have == std::byte{byte}; });
    if (hit != end) {
      return at + static_cast<uint64_t>(hit - bytes.begin());
    }
    if (got < want || got < pattern.size()) {
      return std::nullopt;
    }
    at += got - pattern.size() + 1;  // it may lie across the chunk's end
  }
  return std::nullopt;
}

}  // namespace qp::proc
