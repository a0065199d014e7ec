// Where the jump to the new function goes.
//
//     old:  f3 0f 1e fa       endbr64            kept: an indirect branch must land on it (CET)
//           e9 xx xx xx xx    jmp new            written over whatever is here
//
// The five bytes belong to the function, or to the padding behind it. Behind a short function
// assemblers put NOPs, linkers int3 or zeros, and nobody executes them; but a byte that starts
// another symbol is not padding, whatever its value is (a function can begin with a NOP), so the
// next symbol bounds it. A symbol *inside* the five bytes is a second way in, and is refused as
// well.
//
// A function of the kind `xor %eax,%eax; ret` with its neighbour right behind it has no room.
// A jmp rel8 into padding nearby that holds the long jump would do; until there is one, it is
// refused.

#include <algorithm>
#include <limits>

#include <fmt/format.h>

#include "base/error.h"
#include "insn/instruction.h"
#include "link/image.h"

namespace qp::link {
namespace {

constexpr uint64_t kJumpSize = 5, kEndbrSize = 4;

bool in_reach(LinkAddr at, LinkAddr to) {
  int64_t distance = to - (at + kJumpSize);
  return std::numeric_limits<int32_t>::min() <= distance &&
         distance <= std::numeric_limits<int32_t>::max();
}

// True if [from, to) of `code` is padding from its beginning on.
bool is_padding(ByteView code, uint64_t from, uint64_t to) {
  while (from < to) {
    const uint64_t size = insn::padding_at(code, from);
    if (size == 0) {
      return false;
    }
    from += size;
  }
  return true;
}

}  // namespace

Bytes encode_jump(LinkAddr at, LinkAddr to) {
  QP_ASSERT(in_reach(at, to));
  Bytes jump;
  append(jump, uint8_t{0xe9});  // jmp to
  append(jump, static_cast<int32_t>(to - (at + kJumpSize)));
  return jump;
}

std::optional<Detour> plan_detour(const std::string& function, LinkAddr entry, uint64_t size,
                                  ByteView code, LinkAddr to, std::optional<LinkAddr> next,
                                  Report& report) {
  uint64_t start = 0;
  if (code.size() >= kEndbrSize && size >= kEndbrSize) {
    auto first = insn::decode(code, 0);
    start = first && first->is_endbr64 ? kEndbrSize : 0;
  }
  const uint64_t end = start + kJumpSize;
  auto short_for = [&](std::string why) {
    report.refuse("function-short", function,
                  fmt::format("{} bytes at {:#x}; {}", size, entry.value, why));
    return std::nullopt;
  };
  if (code.size() < end) {
    return short_for("the jump would leave the mapped code");
  }
  if (next && entry < *next && *next < entry + end) {
    return short_for(
        fmt::format("another symbol begins at +{:#x}, inside the jump", next->value - entry.value));
  }
  if (size < end && !is_padding(code, size, end)) {
    return short_for(
        fmt::format("behind it is no padding: {}",
                    hex(code.subspan(size, std::min<uint64_t>(8, code.size() - size)))));
  }
  if (!in_reach(entry + start, to)) {
    report.refuse(
        "reloc-range", function,
        fmt::format("the new function at {:#x} is out of reach from {:#x}", to.value, entry.value));
    return std::nullopt;
  }
  Detour detour;
  detour.function = function;
  detour.at = entry + start;
  detour.to = to;
  detour.expected = copy(code.subspan(start, kJumpSize));
  detour.jump = encode_jump(detour.at, to);
  return detour;
}

}  // namespace qp::link
