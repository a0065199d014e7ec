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
// A function of the kind `xor %eax,%eax; ret` with its neighbour right behind it has no room. Then two
// bytes lead to an island, the long jump in somebody else's padding:
//
//     old:      eb xx             jmp island      within 128 bytes
//     ...
//     island:   e9 xx xx xx xx    jmp new
//
// Which bytes are padding is shown by match/padding.h. The island is written first and taken back
// last, so that the short jump leads to the long one at every moment, and a thread may stand on it: it
// counts as a part of the image (apply/plan.h, registry.h).

#include <algorithm>
#include <cstdlib>
#include <limits>

#include <fmt/format.h>

#include "base/error.h"
#include "insn/instruction.h"
#include "link/image.h"

namespace qp::link {
namespace {

constexpr uint64_t kJumpSize = 5, kShortJumpSize = 2, kEndbrSize = 4;

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

// Behind endbr64, if the function begins with one.
uint64_t jump_offset(ByteView code, uint64_t size) {
  if (code.size() < kEndbrSize || size < kEndbrSize) {
    return 0;
  }
  const auto first = insn::decode(code, 0);
  return first && first->is_endbr64 ? kEndbrSize : 0;
}

// Places in `spare` for an island, from front to back.
std::vector<LinkAddr> free_places(const Spare& spare, const std::vector<LinkRange>& taken) {
  std::vector<LinkAddr> out;
  for (uint64_t at = 0; at + kJumpSize <= spare.bytes.size(); ++at) {
    const LinkRange place{spare.at + at, spare.at + at + kJumpSize};
    if (std::none_of(taken.begin(), taken.end(),
                     [&](const LinkRange& other) { return place.overlaps(other); })) {
      out.push_back(place.start);
    }
  }
  return out;
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
  const uint64_t start = jump_offset(code, size);
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

std::optional<Detour> plan_short_detour(const std::string& function, LinkAddr entry, uint64_t size,
                                        ByteView code, LinkAddr to, std::optional<LinkAddr> next,
                                        const std::vector<Spare>& spares,
                                        const std::vector<LinkRange>& taken) {
  const uint64_t start = jump_offset(code, size), end = start + kShortJumpSize;
  if (code.size() < end || (next && entry < *next && *next < entry + end) ||
      (size < end && !is_padding(code, size, end))) {
    return std::nullopt;
  }
  Detour detour;
  detour.function = function;
  detour.at = entry + start;
  detour.to = to;
  detour.expected = copy(code.subspan(start, kShortJumpSize));
  std::vector<LinkRange> used = taken;
  used.push_back({detour.at, detour.at + kShortJumpSize});
  int64_t nearest = std::numeric_limits<int64_t>::max();
  for (const Spare& spare : spares) {
    for (const LinkAddr at : free_places(spare, used)) {
      const int64_t distance = at - (detour.at + kShortJumpSize);
      if (distance < std::numeric_limits<int8_t>::min() ||
          distance > std::numeric_limits<int8_t>::max() || std::abs(distance) >= nearest ||
          !in_reach(at, to)) {
        continue;
      }
      nearest = std::abs(distance);
      detour.island = {
          at, copy(ByteView(spare.bytes).subspan(static_cast<uint64_t>(at - spare.at), kJumpSize)),
          encode_jump(at, to)};
      detour.jump.clear();
      append(detour.jump, uint8_t{0xeb});  // jmp island
      append(detour.jump, static_cast<int8_t>(distance));
    }
  }
  return detour.island ? std::optional(std::move(detour)) : std::nullopt;
}

std::vector<Detour> plan_detours(const format::Patch& patch, const Image& image,
                                 const TargetText& text, std::vector<LinkRange> taken,
                                 Report& report) {
  constexpr size_t kEntry = 64;
  std::vector<std::optional<Detour>> plans(patch.replaced.size());
  std::vector<Report> findings(patch.replaced.size());
  const auto each = [&](const auto& plan) {
    for (size_t i = 0; i < patch.replaced.size(); ++i) {
      const format::Replaced& f = patch.replaced[i];
      const uint64_t size = f.ranges.front().size();
      if (plans[i]) {
        continue;
      }
      plans[i] = plan(i, f, size, text.code(f.entry, kEntry), text.next_start(f.entry, size));
      if (plans[i]) {
        for (const LinkRange range : overwritten_by(*plans[i])) {
          taken.push_back(range);
        }
      }
    }
  };
  // First those that need no island: they have no choice.
  each([&](size_t i, const format::Replaced& f, uint64_t size, const Bytes& code,
           std::optional<LinkAddr> next) {
    return plan_detour(f.name, f.entry, size, code, image.new_functions[i].range.start, next,
                       findings[i]);
  });
  each([&](size_t i, const format::Replaced& f, uint64_t size, const Bytes& code,
           std::optional<LinkAddr> next) -> std::optional<Detour> {
    if (findings[i].refusals().front().id != "function-short") {
      return std::nullopt;
    }
    const LinkAddr jump = f.entry + jump_offset(code, size);
    const auto own = text.own_island ? text.own_island(jump) : std::nullopt;
    return plan_short_detour(f.name, f.entry, size, code, image.new_functions[i].range.start, next,
                             own ? std::vector{*own} : text.spares(jump, kJumpSize),
                             own ? std::vector<LinkRange>{} : taken);
  });
  std::vector<Detour> out;
  for (size_t i = 0; i < plans.size(); ++i) {
    if (plans[i]) {
      out.push_back(std::move(*plans[i]));
      continue;
    }
    for (const Refusal& r : findings[i].refusals()) {
      report.refuse(r.id, r.where, r.detail);
    }
  }
  return out;
}

std::vector<LinkRange> overwritten_by(const Detour& detour) {
  std::vector<LinkRange> out = {{detour.at, detour.at + detour.jump.size()}};
  if (detour.island) {
    out.push_back({detour.island->at, detour.island->at + detour.island->jump.size()});
  }
  return out;
}

}  // namespace qp::link
