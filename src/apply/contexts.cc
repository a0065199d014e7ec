// Who is inside, and on no stack that a thread runs on?
//
// A coroutine that waits, a jmp_buf, a signal frame on a stack that was switched away: they hold an
// address at which code goes on, anywhere in memory that the process writes. There is no list of
// them; each library has its own form. What they have in common is that word. glibc hides the ones
// in jmp_buf (sysdeps/x86_64/jmpbuf-offsets.h and setjmp.S, glibc 2.36: the program counter xor the
// pointer guard at %fs:0x30, rotated left by 17), and the guard can be read, so they are found too.
//
// The stacks of threads are left out, because the stack check judges them better: by their frames,
// where here every stale word counts. A stack is known by the thread control block that glibc puts
// on top of it, or is the kernel's [stack]. glibc keeps stacks of threads that ended, with their
// control blocks and old words; nothing runs there, so they are left out in the same way. A thread
// that runs on a stack inside other memory is itself a coroutine, and that memory is looked at.
//
// The memory is read while the process runs, since it can be gigabytes and the pause may not be
// longer for it. So it is looked at before the switch and once more after it: a context that was
// suspended inside in between is seen then, and the switch is taken back. Old code stays where it
// is but for the bytes at its entry, so such a context is never in danger, only out of step.

#include "apply/contexts.h"

#include <algorithm>
#include <array>
#include <bit>
#include <string_view>

#include "apply/registries.h"
#include "unwind/unwind.h"

namespace qp::apply {
namespace {

constexpr uint64_t kSmall = uint64_t{32} << 20;  // scanned in about 10 ms
constexpr size_t kChunk = size_t{1} << 20;
constexpr uint64_t kGuardOffset = 0x30;  // glibc sysdeps/x86_64/nptl/tls.h, pointer_guard

bool makes_contexts(const proc::Process& process) {
  constexpr std::array<std::string_view, 8> kMakers = {"swapcontext", "makecontext", "setcontext",
                                                       "getcontext",  "sigaltstack", "_setjmp",
                                                       "setjmp",      "__sigsetjmp"};
  for (const proc::Module& m : process.modules()) {
    if (!m.file) {
      continue;
    }
    if (m.file->is_static()) {
      return true;  // it imports nothing; what is linked into it can be anything
    }
    for (const elf::Symbol& s : m.file->dynamic_symbols()) {
      if (!s.defined() && std::find(kMakers.begin(), kMakers.end(), s.name) != kMakers.end()) {
        return true;
      }
    }
  }
  return false;
}

}  // namespace

ContextScan::ContextScan(const proc::Process& process, std::vector<LiveRange> ranges,
                         std::vector<LiveAddr> starts)
    : process_(process), ranges_(std::move(ranges)), starts_(std::move(starts)), pagemap_(process) {
  std::sort(starts_.begin(), starts_.end());
  wanted_ =
      proc::anonymous_memory(process).value_or(~uint64_t{0}) <= kSmall || makes_contexts(process);
}

// A control block begins with a pointer to itself, and has another one 16 bytes on (glibc
// sysdeps/x86_64/nptl/tls.h, tcbhead_t: tcb and self).
std::optional<LiveAddr> ContextScan::find_control_block(const proc::Mapping& mapping) const {
  constexpr uint64_t kTop = uint64_t{64} << 10;
  if (!mapping.name.empty() || !mapping.readable) {
    return std::nullopt;
  }
  const LiveAddr start = mapping.range.end - std::min(mapping.range.size(), kTop);
  Bytes top(static_cast<uint64_t>(mapping.range.end - start));
  top.resize(process_.memory().read_some(start, top));
  for (uint64_t at = 0; at + 24 <= top.size(); at += 16) {
    const uint64_t here = (start + at).value;
    if (load<uint64_t>(top, at) == here && load<uint64_t>(top, at + 16) == here) {
      return start + at;
    }
  }
  return std::nullopt;
}

bool ContextScan::is_inside(uint64_t word) const {
  const auto after =
      std::upper_bound(ranges_.begin(), ranges_.end(), word,
                       [](uint64_t w, const LiveRange& r) { return w < r.start.value; });
  return after != ranges_.begin() && word <= std::prev(after)->end.value &&
         !std::binary_search(starts_.begin(), starts_.end(), LiveAddr(word));
}

std::optional<SuspendedContext> ContextScan::look_in(const proc::Mapping& mapping, uint64_t guard) {
  const uint64_t low = ranges_.front().start.value;
  const uint64_t span = ranges_.back().end.value - low;
  for (const LiveRange range : pagemap_.resident(mapping.range)) {
    for (LiveAddr at = range.start; at < range.end; at += kChunk) {
      buffer_.resize(std::min<uint64_t>(kChunk, static_cast<uint64_t>(range.end - at)));
      buffer_.resize(process_.memory().read_some(at, buffer_));  // unmapped meanwhile: gone
      for (size_t i = 0; i + sizeof(uint64_t) <= buffer_.size(); i += sizeof(uint64_t)) {
        const auto word = load<uint64_t>(buffer_, i);
        const uint64_t plain = std::rotr(word, 17) ^ guard;
        for (const uint64_t value : {word, plain}) {
          if (value - low <= span && is_inside(value)) {
            return SuspendedContext{at + i, LiveAddr(value), value != word,
                                    mapping.name.empty() ? "anonymous memory" : mapping.name};
          }
        }
      }
    }
  }
  return std::nullopt;
}

std::optional<SuspendedContext> ContextScan::look() {
  if (ranges_.empty()) {
    return std::nullopt;
  }
  uint64_t guard = 0;  // one for all threads
  std::vector<proc::Mapping> memory;
  for (proc::Mapping& m : process_.mappings()) {
    if (!m.writable || m.shared || m.name == "[stack]" || is_image_name(m.name)) {
      continue;
    }
    if (const auto block = find_control_block(m)) {
      Bytes word(sizeof guard);
      if (process_.memory().try_read(*block + kGuardOffset, word)) {
        guard = load<uint64_t>(word);
      }
      continue;
    }
    memory.push_back(std::move(m));
  }
  for (const proc::Mapping& m : memory) {
    if (auto found = look_in(m, guard)) {
      return found;
    }
  }
  return std::nullopt;
}

}  // namespace qp::apply
