// Are the unwind entries of two equal functions the same?
//
// They decide where an exception goes and what a debugger or our own stack check sees, so a
// difference in them is a change of the function even if no instruction differs. But the location
// from which a rule holds is written as a distance in bytes, and that depends on the width of
// jumps. So each rule is compared together with the ordinal of the machine instruction from which
// it holds (DWARF 5 section 6.4.2). Rules that name no instruction boundary are compared by their
// bytes.
//
// The LSDA (call sites, landing pads) holds distances too, packed so that they can't be taken apart
// without knowing the language; it is compared by content. A jump that got wider makes it differ:
// the function is then replaced without need, which is harmless.

#include <fmt/format.h>

#include "elf/cfi.h"
#include "objdiff/compare.h"

namespace qp::objdiff {
namespace {

using elf::AtomId;

bool same_place(const Sides& sides, AtomId original, uint64_t x, AtomId patched, uint64_t y) {
  auto p = sides.original.code_map(original)->index_at(static_cast<int64_t>(x));
  auto q = sides.patched.code_map(patched)->index_at(static_cast<int64_t>(y));
  return p && q ? *p == *q : !p && !q && x == y;
}

bool same_rules(const Sides& sides, AtomId original, const elf::FrameEntry& a, AtomId patched,
                const elf::FrameEntry& b) {
  if (a.offset == b.offset && a.size == b.size && a.instructions == b.instructions &&
      sides.original.atom(original).bytes == sides.patched.atom(patched).bytes) {
    return true;
  }
  if (!same_place(sides, original, a.offset, patched, b.offset) ||
      !same_place(sides, original, a.offset + a.size, patched, b.offset + b.size)) {
    return false;
  }
  auto x = elf::read_frame_steps(a.cie, a.instructions);
  auto y = elf::read_frame_steps(b.cie, b.instructions);
  if (x.size() != y.size()) {
    return false;
  }
  for (size_t n = 0; n < x.size(); ++n) {
    if (x[n].instruction != y[n].instruction ||
        !same_place(sides, original, a.offset + x[n].location, patched, b.offset + y[n].location)) {
      return false;
    }
  }
  return true;
}

}  // namespace

std::optional<Difference> compare_frames(const Sides& sides, Contents& contents, AtomId original,
                                         AtomId patched) {
  const elf::Atom &a = sides.original.atom(original), &b = sides.patched.atom(patched);
  if (a.frames.size() != b.frames.size()) {
    return Difference{0, 0,
                      fmt::format("{} unwind entries, not {}", b.frames.size(), a.frames.size())};
  }
  auto same_reference = [&](const std::optional<elf::Ref>& x, const std::optional<elf::Ref>& y) {
    if (!x || !y) {
      return !x && !y;
    }
    return contents.frame_token(sides.original, *x) == contents.frame_token(sides.patched, *y);
  };
  for (size_t n = 0; n < a.frames.size(); ++n) {
    const elf::FrameEntry &x = a.frames[n], &y = b.frames[n];
    if (x.cie != y.cie || !same_rules(sides, original, x, patched, y)) {
      return Difference{x.offset, y.offset, "the unwind rules differ"};
    }
    if (!same_reference(x.personality, y.personality) || !same_reference(x.lsda, y.lsda)) {
      return Difference{x.offset, y.offset, "exception handling differs"};
    }
  }
  return std::nullopt;
}

}  // namespace qp::objdiff
