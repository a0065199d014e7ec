// The conservative scan: which words of a stack could be return addresses into some code.
//
// It runs while every thread of the process stands still, over every word of every stack, so its
// time is the pause. And it may not miss: a word that was overlooked is a thread that returns into
// changed bytes. It reports stale words as well; telling those apart is the unwinder's work, for
// the few threads that have any.
//
// Nearly all words are not near the code at all. One subtraction and one unsigned comparison
// against the hull of all ranges turns those away, eight words per branch; only what is left is
// looked up.

#include <algorithm>
#include <cstring>

#include "unwind/unwind.h"

namespace qp::unwind {
namespace {

constexpr size_t kWord = 8, kBlock = 8;

uint64_t word_at(ByteView stack, size_t index) {
  uint64_t word;  // our copy of the stack need not be aligned, even though the stack was
  std::memcpy(&word, stack.data() + index * kWord, kWord);
  return word;
}

// `end` counts as inside: it is where a call that is the last instruction returns to.
bool is_inside(uint64_t word, const std::vector<LiveRange>& ranges) {
  auto after = std::upper_bound(ranges.begin(), ranges.end(), word,
                                [](uint64_t w, const LiveRange& r) { return w < r.start.value; });
  return after != ranges.begin() && word <= std::prev(after)->end.value;
}

}  // namespace

std::vector<size_t> scan_words(ByteView stack, const std::vector<LiveRange>& ranges) {
  std::vector<size_t> hits;
  if (ranges.empty()) {
    return hits;
  }
  const uint64_t low = ranges.front().start.value;
  const uint64_t span = ranges.back().end.value - low;
  const size_t words = stack.size() / kWord;
  auto look = [&](size_t index) {
    uint64_t word = word_at(stack, index);
    if (word - low <= span && is_inside(word, ranges)) {
      hits.push_back(index * kWord);
    }
  };
  size_t index = 0;
  for (; index + kBlock <= words; index += kBlock) {
    bool any = false;
    for (size_t i = 0; i < kBlock; ++i) {
      any |= word_at(stack, index + i) - low <= span;
    }
    if (any) {
      for (size_t i = 0; i < kBlock; ++i) {
        look(index + i);
      }
    }
  }
  for (; index < words; ++index) {
    look(index);
  }
  return hits;
}

// The kernel's signal frame (Linux arch/x86/include/uapi/asm/sigcontext.h) holds rsp, rip, the flags
// and then cs, gs, fs and ss in a word each of 16 bits: 0x33, 0, 0 and 0x2b for all 64-bit code.
std::vector<LiveAddr> interrupted_stacks(ByteView stack) {
  constexpr uint64_t kSegments = 0x002b'0000'0000'0033;
  constexpr size_t kBehindStackPointer = 3;
  std::vector<LiveAddr> out;
  for (size_t i = kBehindStackPointer; i < stack.size() / kWord; ++i) {
    if (word_at(stack, i) == kSegments) {
      out.emplace_back(word_at(stack, i - kBehindStackPointer));
    }
  }
  return out;
}

}  // namespace qp::unwind
