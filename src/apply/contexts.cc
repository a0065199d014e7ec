// Who is inside, and on no stack that a thread runs on?
//
// A coroutine that waits, a jmp_buf, a signal frame on a stack that was switched away: they hold an
// address at which code goes on, anywhere in memory that the process writes. There is no list of
// them; each library has its own form. What they have in common is that word. glibc hides the ones
// in jmp_buf (sysdeps/x86_64/jmpbuf-offsets.h and setjmp.S, glibc 2.36: the program counter xor the
// pointer guard at %fs:0x30, rotated left by 17), and the guard can be read, so they are found too.
//
// The stacks of threads are left out, because the stack check judges them better: by their frames,
// where here every stale word counts. glibc puts a thread's control block on top of its stack, and
// the block says where that stack is (thread_stack.cc); the main thread's is the kernel's [stack]. glibc keeps stacks of
// threads that ended, with their blocks and old words; nothing runs there, so they are left out in
// the same way. Only the stack is left out and not the mapping, since the kernel joins neighbouring
// anonymous mappings. A thread that runs on a stack inside other memory is itself a coroutine, and
// that memory is looked at; its own stack then holds a context, which the stack check looks for.
//
// The memory is read while the process runs, since it can be gigabytes and the pause may not be
// longer for it. So it is looked at before the switch and once more after it: a context that was
// suspended inside in between is seen then, and the switch is taken back. Old code stays where it
// is but for the bytes at its entry, so such a context is only out of step; functions in which it could
// return into those bytes are refused (plan.cc, returns_into).

#include "apply/contexts.h"

#include <algorithm>
#include <array>
#include <bit>
#include <string_view>

#include "apply/hooks.h"
#include "apply/registries.h"
#include "apply/thread_stack.h"
#include "proc/procfs.h"

namespace qp::apply {
namespace {

constexpr uint64_t kSmall = uint64_t{32} << 20;  // scanned in about 10 ms
constexpr size_t kChunk = size_t{1} << 20;
constexpr size_t kMostWords = size_t{1} << 20;  // nobody has so many by chance
constexpr uint64_t kAtRandom = 25;              // <linux/auxvec.h>

// glibc 2.36 sysdeps/generic/dl-osinfo.h, _dl_setup_pointer_guard(): the second word of the random
// bytes that the kernel gave to the program.
std::optional<uint64_t> pointer_guard(const proc::Process& process) {
  const auto random = proc::find_auxiliary(process.pid(), kAtRandom);
  return random ? find_word(process.memory(), LiveAddr(*random) + sizeof(uint64_t)) : std::nullopt;
}

}  // namespace

bool makes_contexts(const proc::Process& process) {
  constexpr std::array<std::string_view, 9> kMakers = {"swapcontext", "makecontext", "setcontext",
                                                       "getcontext",  "sigaltstack", "_setjmp",
                                                       "setjmp",      "__sigsetjmp", "sigsetjmp"};
  // Of Boost.Context, libco and libcoro, wherever they are linked in.
  constexpr std::array<std::string_view, 5> kOwnSwitches = {
      "make_fcontext", "jump_fcontext", "co_create", "co_switch", "coro_transfer"};
  const auto is_one_of = [](const auto& names, const std::string& name) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  for (const proc::Module& m : process.modules()) {
    if (!m.file) {
      continue;
    }
    if (m.file->is_static()) {
      return true;  // it imports nothing; what is linked into it can be anything
    }
    for (const elf::Symbol& s : m.file->dynamic_symbols()) {
      if ((!s.defined() && is_one_of(kMakers, s.name)) || is_one_of(kOwnSwitches, s.name)) {
        return true;
      }
    }
  }
  return false;
}

ContextScan::ContextScan(const proc::Process& process, std::vector<LiveRange> ranges,
                         std::vector<LiveAddr> starts)
    : process_(process), ranges_(std::move(ranges)), starts_(std::move(starts)), pagemap_(process) {
  std::sort(starts_.begin(), starts_.end());
  wanted_ =
      proc::anonymous_memory(process).value_or(~uint64_t{0}) <= kSmall || makes_contexts(process);
}

bool ContextScan::is_inside(uint64_t word) const {
  const auto after =
      std::upper_bound(ranges_.begin(), ranges_.end(), word,
                       [](uint64_t w, const LiveRange& r) { return w < r.start.value; });
  return after != ranges_.begin() && word <= std::prev(after)->end.value &&
         !std::binary_search(starts_.begin(), starts_.end(), LiveAddr(word));
}

// A control block begins with a pointer to itself. In glibc's is another one 16 bytes on
// (sysdeps/x86_64/nptl/tls.h, tcbhead_t: tcb and self); musl's is in a ring of all threads: there
// are the one before and the one behind it (musl 1.2.3 pthread_impl.h, struct pthread: prev, next).
// `there`: what has been read at `at` already.
bool ContextScan::is_control_block(LiveAddr at, ByteView there) const {
  const auto word = [&](uint64_t offset) {
    return there.size() >= offset + sizeof(uint64_t) ? std::optional(load<uint64_t>(there, offset))
                                                     : find_word(process_.memory(), at + offset);
  };
  const auto before = word(16), behind = word(24);
  if (!before || *before == at.value) {
    return before.has_value();
  }
  return behind && find_word(process_.memory(), LiveAddr(*before) + 24) == at.value &&
         find_word(process_.memory(), LiveAddr(*behind) + 16) == at.value;
}

void ContextScan::look_in(const proc::Mapping& mapping, std::optional<uint64_t> guard,
                          Found& found) {
  const uint64_t low = ranges_.front().start.value;
  const uint64_t span = ranges_.back().end.value - low;
  const auto consider = [&](LiveAddr at, uint64_t value, bool mangled) {
    if (value - low <= span && is_inside(value) && found.words.size() < kMostWords) {
      found.words.push_back({at, LiveAddr(value), mangled});
    }
  };
  for (const LiveRange range : pagemap_.resident(mapping.range)) {
    for (LiveAddr start = range.start; start < range.end; start += kChunk) {
      buffer_.resize(std::min<uint64_t>(kChunk, static_cast<uint64_t>(range.end - start)));
      buffer_.resize(process_.memory().read_some(start, buffer_));  // unmapped meanwhile: gone
      for (size_t i = 0; i + sizeof(uint64_t) <= buffer_.size(); i += sizeof(uint64_t)) {
        const auto word = load<uint64_t>(buffer_, i);
        const LiveAddr at = start + i;
        consider(at, word, false);
        if (guard) {
          consider(at, std::rotr(word, 17) ^ *guard, true);
        }
        if (word == at.value && is_control_block(at, ByteView(buffer_).subspan(i))) {
          if (const auto stack = find_thread_stack(process_.memory(), at)) {
            found.stacks.push_back(*stack);
          }
        }
      }
    }
  }
}

std::optional<SuspendedContext> ContextScan::look() {
  if (ranges_.empty()) {
    return std::nullopt;
  }
  const std::optional<uint64_t> guard = pointer_guard(process_);
  Found found;
  const std::vector<proc::Mapping> mappings = process_.mappings();
  for (const proc::Mapping& m : mappings) {
    // What hooks left on their stack is no context: a thread that is still on it is found as such.
    if (m.writable && !m.shared && m.name != "[stack]" && !is_image_name(m.name) &&
        !is_hook_stack_name(m.name)) {
      look_in(m, guard, found);
    }
  }
  // Where the list is full something may be missing from it, so that its words count wherever they are.
  const auto word = std::find_if(found.words.begin(), found.words.end(), [&](const Word& w) {
    return found.words.size() == kMostWords ||
           std::none_of(found.stacks.begin(), found.stacks.end(),
                        [&](LiveRange stack) { return stack.contains(w.at); });
  });
  if (word == found.words.end()) {
    return std::nullopt;
  }
  SuspendedContext context{word->at, word->inside, word->mangled, "anonymous memory"};
  for (const proc::Mapping& m : mappings) {
    if (m.range.contains(word->at) && !m.name.empty()) {
      context.where = m.name;
    }
  }
  return context;
}

}  // namespace qp::apply
