// Chooses where an image goes.
//
// Three wishes pull at the place. It must be within reach: every 32-bit distance between any byte
// of the image and any byte of the target has to fit. It should be the same distance in every
// process of a target, because the distance is baked into the text, and equal images share one file
// and its pages. And it must not stand in anybody's way: an executable's heap grows upwards from
// its end by brk, stacks grow down, and a program that runs out of either because of a patch is a
// program that we broke.
//
// So candidates lie on a fixed grid that hangs on the target (64 KiB steps), and the first free one
// in a fixed order wins. Under a PIE there is normally nothing for gigabytes: the grid starts 16
// MiB below it and goes down. Above it is the heap; that side is tried last. A non-PIE starts at 4
// MiB, so there is nothing below it; its images come from the top of the low 2 GiB downwards, as
// far from its heap as 32-bit absolute addresses allow.
//
// Where nothing of the grid is free, any page will do: the place is that process's own then, but it is a
// place. A far image, which needs no distance, goes the same ways without their ends.
//
// Candidates are computed as live addresses, since link addresses below a PIE wrap around 0; in the
// upper half of the address space there is no user memory, so 64 signed bits hold all of it.

#include "link/placement.h"

#include <algorithm>

#include "base/error.h"

namespace qp::link {
namespace {

constexpr int64_t kKiB = 1024, kMiB = 1024 * kKiB, kGiB = 1024 * kMiB;
constexpr int64_t kStep = 64 * kKiB;
constexpr int64_t kGuard = kMiB;  // of reach, and around `avoid`
constexpr int64_t kReach = 2 * kGiB - kGuard;
constexpr int64_t kDistance = 16 * kMiB;  // from a PIE
constexpr int64_t kLowest = 64 * kKiB;    // Linux: vm.mmap_min_addr's usual value
constexpr int64_t kHighest = (int64_t{1} << 47) - static_cast<int64_t>(kPageSize);
constexpr int64_t kLowTop = 0x7ff00000;  // 1 MiB below 2 GiB

struct Span {
  int64_t start, end;
};

// [start, end) in live addresses, or nullopt if it is not user memory.
std::optional<Span> user_span(uint64_t start, uint64_t end) {
  if (start >= end || end > static_cast<uint64_t>(kHighest) + kPageSize) {
    return std::nullopt;
  }
  return Span{static_cast<int64_t>(start), static_cast<int64_t>(end)};
}

// What may not be touched: mappings with a page of distance, room to grow with more. Sorted,
// merged.
std::vector<Span> find_blocked(const PlacementRequest& request) {
  std::vector<Span> spans;
  auto add = [&](const LiveRange& range, int64_t distance) {
    if (auto span = user_span(range.start.value, range.end.value)) {
      spans.push_back({span->start - distance, span->end + distance});
    }
  };
  for (const LiveRange& range : request.occupied) {
    add(range, static_cast<int64_t>(kPageSize));
  }
  for (const LiveRange& range : request.avoid) {
    add(range, kGuard);
  }
  std::sort(spans.begin(), spans.end(),
            [](const Span& a, const Span& b) { return a.start < b.start; });
  std::vector<Span> merged;
  for (const Span& span : spans) {
    if (!merged.empty() && span.start <= merged.back().end) {
      merged.back().end = std::max(merged.back().end, span.end);
    } else {
      merged.push_back(span);
    }
  }
  return merged;
}

class Search {
 public:
  Search(std::vector<Span> blocked, int64_t size) : blocked_(std::move(blocked)), size_(size) {}
  void set_step(int64_t step) { step_ = step; }

  // First free place at or below `from` on the grid from, from − step, …; never below `lowest`.
  std::optional<int64_t> down(int64_t from, int64_t lowest) const {
    for (int64_t at = from; at >= lowest;) {
      const Span* hit = first_hit(at);
      if (hit == nullptr) {
        return at;
      }
      // The next place of the grid whose end is not above the obstacle's start.
      int64_t too_high = at + size_ - hit->start;
      at -= (too_high + step_ - 1) / step_ * step_;
    }
    return std::nullopt;
  }

  // The same upwards; the image's end stays at or below `highest`.
  std::optional<int64_t> up(int64_t from, int64_t highest) const {
    for (int64_t at = from; at + size_ <= highest;) {
      const Span* hit = first_hit(at);
      if (hit == nullptr) {
        return at;
      }
      int64_t too_low = hit->end - at;
      at += (too_low + step_ - 1) / step_ * step_;
    }
    return std::nullopt;
  }

 private:
  const Span* first_hit(int64_t at) const {
    auto it = std::upper_bound(blocked_.begin(), blocked_.end(), at,
                               [](int64_t a, const Span& s) { return a < s.end; });
    return it != blocked_.end() && it->start < at + size_ ? &*it : nullptr;
  }

  std::vector<Span> blocked_;
  int64_t size_, step_ = kStep;
};

}  // namespace

std::optional<LinkAddr> choose_place(const PlacementRequest& request) {
  QP_ASSERT(request.size != 0 && request.size % kPageSize == 0);
  auto target =
      user_span(request.bias(request.target.start).value, request.bias(request.target.end).value);
  if (!target || request.size > static_cast<uint64_t>(kReach)) {
    return std::nullopt;
  }
  const auto size = static_cast<int64_t>(request.size);
  Search search(find_blocked(request), size);
  // In reach: the two together span no more than kReach.
  int64_t lowest = request.far ? kLowest : std::max(kLowest, target->end - kReach);
  int64_t highest = request.far ? kHighest : std::min(kHighest, target->start + kReach);
  for (const LiveRange& range : request.also) {
    const auto span = user_span(range.start.value, range.end.value);
    if (span && !request.far) {
      lowest = std::max(lowest, span->end - kReach);
      highest = std::min(highest, span->start + kReach);
    }
  }

  std::optional<int64_t> place;
  const bool fixed_low = request.bias.value == 0 && target->end <= 2 * kGiB;
  if (request.low_2g || fixed_low) {
    const int64_t top = (std::min(kLowTop, highest) - size) / kStep * kStep;
    place = search.down(top, lowest);
    if (!place && !request.low_2g) {
      place = search.up(kLowTop, highest);
    }
  } else {
    // The grid hangs on link addresses, so that it is the same for every bias.
    auto live = [&](LinkAddr at) {
      LinkAddr on_grid(align_down(at.value, static_cast<uint64_t>(kStep)));
      return static_cast<int64_t>(request.bias(on_grid).value);
    };
    place = search.down(live(request.target.start - (kDistance + request.size)), lowest);
    if (!place) {
      place = search.up(live(request.target.end + (kDistance + kStep - 1)), highest);
    }
  }
  if (!place) {
    constexpr auto kPage = static_cast<int64_t>(kPageSize);
    search.set_step(kPage);
    const int64_t top = request.low_2g ? std::min(kLowTop, highest) : highest;
    place = search.down((top - size) / kPage * kPage, lowest);
  }
  if (!place) {
    return std::nullopt;
  }
  return request.bias(LiveAddr(static_cast<uint64_t>(*place)));
}

bool is_near(LinkRange target, LinkRange image, LoadBias bias) {
  const auto from = user_span(bias(target.start).value, bias(target.end).value);
  const auto to = user_span(bias(image.start).value, bias(image.end).value);
  return from && to && from->end - kReach <= to->start && to->end <= from->start + kReach;
}

}  // namespace qp::link
