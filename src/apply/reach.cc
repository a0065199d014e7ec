// A conservative scan for pointers into an image, for P9: any aligned word whose value lies in the
// image counts as a pointer. The dead part of a stack (below the red zone of its thread's stack
// pointer) is left out: it is full of old return addresses, and is never read before it is written.
// That holds for a thread's own stack (thread_stack.cc). Where a thread runs a coroutine, the memory
// below can be the stacks of others, which are suspended.
//
// Only resident pages are read; reading others would make them resident.

#include "apply/reach.h"

#include <algorithm>

#include <fmt/format.h>

#include "apply/thread_stack.h"
#include "unwind/unwind.h"

namespace qp::apply {
namespace {

constexpr uint64_t kRedZone = 128;  // psABI 3.2.2
// Where the kernel can't skip what is not there (proc/pagemap.cc), even asking which pages of a larger
// mapping are resident takes too long for a frozen process.
constexpr uint64_t kLargestMapping = uint64_t{1} << 30;

bool is_in(const std::vector<LiveRange>& images, LiveAddr address) {
  return std::any_of(images.begin(), images.end(),
                     [&](LiveRange image) { return image.contains(address); });
}

bool register_holds(const proc::StoppedThread& thread, const std::vector<LiveRange>& images) {
  const proc::GeneralRegisters& r = thread.registers;
  for (uint64_t value : {r.r15, r.r14, r.r13, r.r12, r.rbp, r.rbx, r.r11, r.r10, r.r9, r.r8, r.rax,
                         r.rcx, r.rdx, r.rsi, r.rdi, r.rip}) {
    if (is_in(images, LiveAddr(value))) {
      return true;
    }
  }
  return false;
}

// What lies below the stack pointers of threads on their own stacks, ascending.
std::vector<LiveRange> dead_parts(const proc::Process& process,
                                  const std::vector<proc::Mapping>& mappings,
                                  const proc::Frozen& frozen) {
  std::vector<LiveRange> out;
  for (const proc::StoppedThread& t : frozen.threads()) {
    const LiveAddr sp(t.registers.rsp);
    const auto own = t.kernel_only ? std::nullopt : find_own_stack(process, mappings, t);
    const LiveAddr end(align_down(sp.value - kRedZone, 8));
    if (own && own->contains(sp) && own->start < end) {
      out.push_back({own->start, end});
    }
  }
  std::sort(out.begin(), out.end());
  return out;
}

std::vector<LiveRange> live_parts(LiveRange range, const std::vector<LiveRange>& dead) {
  std::vector<LiveRange> out;
  for (const LiveRange part : dead) {
    if (!part.overlaps(range)) {
      continue;
    }
    if (range.start < part.start) {
      out.push_back({range.start, part.start});
    }
    range.start = std::min(std::max(range.start, part.end), range.end);
  }
  if (range.start < range.end) {
    out.push_back(range);
  }
  return out;
}

}  // namespace

ReachScan::ReachScan(const proc::Process& process, std::vector<LiveRange> images, uint64_t limit)
    : process_(process), images_(std::move(images)), limit_(limit), pagemap_(process) {
  buffer_.reserve(limit);
}

std::string ReachScan::too_much() const {
  return fmt::format("the process has more than {} KiB of memory that could refer to it",
                     limit_ / 1024);
}

std::string ReachScan::obstacle() const {
  return proc::anonymous_memory(process_).value_or(0) > limit_ ? too_much() : "";
}

std::string ReachScan::look(const proc::Frozen& frozen) {
  for (const proc::StoppedThread& t : frozen.threads()) {
    if (!t.kernel_only && register_holds(t, images_)) {
      return fmt::format("a register of thread {} points into it", t.tid);
    }
  }
  std::vector<LiveRange> ranges;
  uint64_t total = 0;
  const std::vector<proc::Mapping> mappings = process_.mappings();
  const std::vector<LiveRange> dead = dead_parts(process_, mappings, frozen);
  for (const proc::Mapping& m : mappings) {
    const bool in_image = std::any_of(images_.begin(), images_.end(),
                                      [&](LiveRange image) { return m.range.overlaps(image); });
    if (!m.writable || in_image) {
      continue;
    }
    if (m.range.size() > kLargestMapping && !pagemap_.skips_absent()) {
      return "the process has large mappings that could refer to it";
    }
    for (const LiveRange part : live_parts(m.range, dead)) {
      for (LiveRange r : pagemap_.resident(part)) {
        total += r.size();
        ranges.push_back(r);
      }
    }
    if (total > limit_) {
      return too_much();
    }
  }
  buffer_.resize(total);
  std::vector<proc::Memory::Piece> pieces;
  size_t at = 0;
  for (LiveRange r : ranges) {
    pieces.push_back({r.start, ByteSpan(buffer_).subspan(at, r.size())});
    at += r.size();
  }
  if (!process_.memory().read_pieces(pieces)) {
    return "some of its memory can't be read";
  }
  for (const proc::Memory::Piece& p : pieces) {
    if (auto hits = unwind::scan_words(p.out, images_); !hits.empty()) {
      return fmt::format("a word at {:#x} points into it", (p.at + hits.front()).value);
    }
  }
  return "";
}

}  // namespace qp::apply
