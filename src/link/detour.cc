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
// A far image (link/far.h) is out of reach for five bytes. Then they lead to an island as well, anywhere in
// the target's code, which knows where the new function is in this process:
//
//     island:   ff 25 00 00 00 00    jmp *0(%rip)
//               xx xx xx xx xx xx xx xx
//
// A write to one page is there or not; one that goes on to the next page can be cut in two by the death of
// who writes it, and then the program runs into half a jump. So where the five bytes would lie on two pages
// and two of them on the first, an island serves as well, and no island lies on two pages.
//
// Which bytes are padding is shown by match/padding.h. The island is written first and taken back
// last, so that the jump leads to the long one at every moment, and a thread may stand on it: it counts
// as a part of the image (apply/plan.h, registry.h).

#include <algorithm>
#include <cstdlib>
#include <limits>

#include <fmt/format.h>

#include "base/error.h"
#include "insn/instruction.h"
#include "link/image.h"

namespace qp::link {
namespace {

constexpr uint64_t kJumpSize = 5, kShortJumpSize = 2, kEndbrSize = 4, kFarJumpSize = 14;

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

bool is_on_two_pages(LinkAddr at, uint64_t size) {
  return at.value / kPageSize != (at.value + size - 1) / kPageSize;
}

// Places in `spare` for an island of `size` bytes, from front to back.
std::vector<LinkAddr> free_places(const Spare& spare, uint64_t size,
                                  const std::vector<LinkRange>& taken) {
  std::vector<LinkAddr> out;
  for (uint64_t at = 0; at + size <= spare.bytes.size(); ++at) {
    const LinkRange place{spare.at + at, spare.at + at + size};
    if (!is_on_two_pages(place.start, size) &&
        std::none_of(taken.begin(), taken.end(),
                     [&](const LinkRange& other) { return place.overlaps(other); })) {
      out.push_back(place.start);
    }
  }
  return out;
}

Bytes encode_far_jump(LiveAddr to) {
  Bytes jump;
  append(jump, uint8_t{0xff});  // jmp *0(%rip)
  append(jump, uint8_t{0x25});
  append(jump, uint32_t{0});
  append(jump, to.value);
  return jump;
}

Bytes encode_short_jump(int64_t distance) {
  Bytes jump;
  append(jump, uint8_t{0xeb});  // jmp island
  append(jump, static_cast<int8_t>(distance));
  return jump;
}

uint64_t island_size(const Leap& leap) {
  return leap.bias ? kFarJumpSize : kJumpSize;
}

// All that a short jump at `at` can lead to, if `size` bytes are there.
LinkRange reach_of_short_jump(LinkAddr at, uint64_t size) {
  constexpr uint64_t kBack = 128, kForth = 127;
  return {at + kShortJumpSize - kBack, at + kShortJumpSize + kForth + size};
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

std::optional<Detour> plan_leap(const std::string& function, LinkAddr entry, uint64_t size,
                                ByteView code, LinkAddr to, std::optional<LinkAddr> next, Leap leap,
                                const std::vector<Spare>& spares,
                                const std::vector<LinkRange>& taken) {
  const uint64_t jump_size = leap.is_short ? kShortJumpSize : kJumpSize;
  const uint64_t start = jump_offset(code, size), end = start + jump_size;
  if (code.size() < end || (next && entry < *next && *next < entry + end) ||
      (size < end && !is_padding(code, size, end))) {
    return std::nullopt;
  }
  Detour detour;
  detour.function = function;
  detour.at = entry + start;
  detour.to = to;
  detour.expected = copy(code.subspan(start, jump_size));
  std::vector<LinkRange> used = taken;
  used.push_back({detour.at, detour.at + jump_size});
  int64_t nearest = std::numeric_limits<int64_t>::max();
  for (const Spare& spare : spares) {
    for (const LinkAddr at : free_places(spare, island_size(leap), used)) {
      const int64_t distance = at - (detour.at + jump_size);
      const bool reached = leap.is_short ? std::numeric_limits<int8_t>::min() <= distance &&
                                               distance <= std::numeric_limits<int8_t>::max()
                                         : in_reach(detour.at, at);
      if (!reached || std::abs(distance) >= nearest || (!leap.bias && !in_reach(at, to))) {
        continue;
      }
      nearest = std::abs(distance);
      Bytes expected = copy(
          ByteView(spare.bytes).subspan(static_cast<uint64_t>(at - spare.at), island_size(leap)));
      detour.island = {at, std::move(expected),
                       leap.bias ? encode_far_jump((*leap.bias)(to)) : encode_jump(at, to)};
      detour.jump = leap.is_short ? encode_short_jump(distance) : encode_jump(detour.at, at);
    }
  }
  return detour.island ? std::optional(std::move(detour)) : std::nullopt;
}

namespace {

// Plans the detours of a patch, one form after the other: those that need no island have no choice, and
// of the others those that reach less far have less of it.
class Planner {
 public:
  Planner(const format::Patch& patch, const Image& image, const TargetText& text,
          std::vector<LinkRange> taken)
      : patch_(patch),
        image_(image),
        text_(text),
        taken_(std::move(taken)),
        plans_(patch.replaced.size()),
        findings_(patch.replaced.size()) {}

  std::vector<Detour> plan(Report& report) {
    for (size_t i = 0; i < plans_.size(); ++i) {
      const format::Replaced& f = patch_.replaced[i];
      keep(i, plan_detour(f.name, f.entry, size_of(f), text_.code(f.entry, kEntryCode), to(i),
                          text_.next_start(f.entry, size_of(f)), findings_[i]));
    }
    for (const bool is_short : {true, false}) {
      for (size_t i = 0; i < plans_.size(); ++i) {
        if (!plans_[i] && is_short == is_refused_as(i, "function-short")) {
          keep(i, leap(i, is_short));
        } else if (is_short && plans_[i] && can_be_cut(*plans_[i])) {
          if (auto whole = leap(i, is_short)) {
            keep(i, std::move(whole));
          }
        }
      }
    }
    std::vector<Detour> out;
    for (size_t i = 0; i < plans_.size(); ++i) {
      if (plans_[i]) {
        out.push_back(std::move(*plans_[i]));
      } else {
        tell(i, report);
      }
    }
    return out;
  }

 private:
  static constexpr size_t kEntryCode = 64;
  static uint64_t size_of(const format::Replaced& f) { return f.ranges.front().size(); }

  LinkAddr to(size_t i) const { return image_.new_functions[i].range.start; }
  bool is_refused_as(size_t i, std::string_view id) const {
    return findings_[i].refusals().front().id == id;
  }
  // And would not be, if it were a short jump.
  static bool can_be_cut(const Detour& detour) {
    return is_on_two_pages(detour.at, kJumpSize) && !is_on_two_pages(detour.at, kShortJumpSize);
  }
  bool is_far(size_t i) const { return !in_reach(patch_.replaced[i].entry, to(i)); }

  void keep(size_t i, std::optional<Detour> plan) {
    plans_[i] = std::move(plan);
    if (plans_[i]) {
      for (const LinkRange range : overwritten_by(*plans_[i])) {
        taken_.push_back(range);
      }
    }
  }

  std::optional<Detour> leap(size_t i, bool is_short) const {
    const format::Replaced& f = patch_.replaced[i];
    const Bytes code = text_.code(f.entry, kEntryCode);
    const LinkAddr jump = f.entry + jump_offset(code, size_of(f));
    const Leap leap{is_short, is_far(i) ? std::optional(text_.bias) : std::nullopt};
    const auto into = [&](const std::vector<Spare>& spares, const std::vector<LinkRange>& taken) {
      return plan_leap(f.name, f.entry, size_of(f), code, to(i),
                       text_.next_start(f.entry, size_of(f)), leap, spares, taken);
    };
    const auto within = [&](LinkRange window) {
      return into(text_.spares(window, island_size(leap)), taken_);
    };
    // One of another size would have to be somewhere else for a moment.
    const auto own = text_.own_island ? text_.own_island(jump) : std::nullopt;
    if (own && own->bytes.size() == island_size(leap)) {
      return into({*own}, {});
    }
    if (is_short) {
      return within(reach_of_short_jump(jump, island_size(leap)));
    }
    // Behind the function and in front of it, and further away.
    constexpr uint64_t kWindow = 4096, kWindows = 64;
    for (uint64_t n = 0; n < kWindows; ++n) {
      const LinkAddr behind = jump + n * kWindow;
      const LinkAddr in_front(jump.value - std::min(jump.value, (n + 1) * kWindow));
      for (const LinkAddr at : {behind, in_front}) {
        if (auto found = within({at, at + kWindow + kFarJumpSize})) {
          return found;
        }
      }
    }
    return std::nullopt;
  }

  void tell(size_t i, Report& report) const {
    if (is_refused_as(i, "function-short")) {
      const Refusal& r = findings_[i].refusals().front();
      report.refuse(r.id, r.where, r.detail);
      return;
    }
    report.refuse("no-room", patch_.replaced[i].name,
                  fmt::format("the new function at {:#x} is out of reach of a jump at {:#x}, and "
                              "{} bytes of padding that a jump to it needs are not near there",
                              to(i).value, patch_.replaced[i].entry.value, kFarJumpSize));
  }

  const format::Patch& patch_;
  const Image& image_;
  const TargetText& text_;
  std::vector<LinkRange> taken_;
  std::vector<std::optional<Detour>> plans_;
  std::vector<Report> findings_;
};

}  // namespace

std::vector<Detour> plan_detours(const format::Patch& patch, const Image& image,
                                 const TargetText& text, std::vector<LinkRange> taken,
                                 Report& report) {
  return Planner(patch, image, text, std::move(taken)).plan(report);
}

std::vector<LinkRange> overwritten_by(const Detour& detour) {
  std::vector<LinkRange> out = {{detour.at, detour.at + detour.jump.size()}};
  if (detour.island) {
    out.push_back({detour.island->at, detour.island->at + detour.island->jump.size()});
  }
  return out;
}

}  // namespace qp::link
