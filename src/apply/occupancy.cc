// The stack check.
//
// No thread may have its program counter or a return address inside the code that is replaced (P6).
// While the process is frozen, every microsecond counts, so the check has two stages. First every
// word from the stack pointer to the end of the stack's mapping is compared with the ranges: no
// false negatives whatever the frames look like, and it costs a bulk read. A hit may be a stale
// word that an earlier call left behind; only for threads with a hit the frames are unwound by CFI
// to tell. If the trace does not reach a known outermost frame, the word stands: busy.
//
// Unwind tables take milliseconds to load, which must not happen while the process stands still. So
// a hit without tables makes the caller thaw, load them, and freeze again.
//
// The mapping bounds the stack, never RLIMIT_STACK: reading the limit's 8 MiB per thread is how one
// peer freezes 64 threads for 0.3 s. Maps are read just before the freeze; a stack pointer that
// they don't explain makes us read them again.
//
// A thread can have more than one stack that counts. A signal handler on an alternate stack will return
// to what it interrupted, wherever that was: the signal frame tells the stack pointer there, and that
// stack is read too. And a thread whose stack pointer is outside of its own stack (a coroutine) has left
// a context behind there, of which nobody tells where it is: every word counts, the old ones too, unless
// the frames of the thread lead back to that stack.
//
// A thread that runs kernel code only (io_uring or vhost worker) has no user stack and is left out.
// A thread whose stack pointer is in no writable mapping can't be checked: busy.

#include "apply/occupancy.h"

#include <algorithm>

#include <fmt/format.h>

#include "apply/hooks.h"
#include "apply/thread_stack.h"
#include "match/symbol_map.h"
#include "proc/waiting.h"

namespace qp::apply {
namespace {

// Registers in DWARF order (psABI figure 3.36).
unwind::Registers dwarf_registers(const proc::GeneralRegisters& r) {
  unwind::Registers out;
  out.values = {r.rax, r.rdx, r.rcx, r.rbx, r.rsi, r.rdi, r.rbp, r.rsp, r.r8,
                r.r9,  r.r10, r.r11, r.r12, r.r13, r.r14, r.r15, r.rip};
  return out;
}

constexpr size_t kBuffer = size_t{512} << 10;
// Of code without unwind tables, for all threads: a few milliseconds. What was rehearsed costs none.
constexpr size_t kStepsWhileFrozen = 20'000;
constexpr size_t kSignalFrameWords = 4;  // by which one is known
constexpr size_t kAtOnce = 256;          // that Memory::read_pieces reads with one call

bool inside_any(const std::vector<LiveRange>& ranges, LiveAddr address) {
  return std::any_of(ranges.begin(), ranges.end(),
                     [&](LiveRange r) { return r.contains(address); });
}

}  // namespace

StackCheck::StackCheck(const proc::Process& process, std::vector<LiveRange> ranges,
                       std::vector<LiveRange> for_contexts)
    : process_(process),
      ranges_(std::move(ranges)),
      for_contexts_(std::move(for_contexts)),
      pagemap_(process) {}

void StackCheck::prepare() {
  mappings_ = process_.mappings();
  std::sort(mappings_.begin(), mappings_.end(),
            [](const auto& a, const auto& b) { return a.range.start < b.range.start; });
  maps_are_fresh_ = false;
  stacks_.reserve(1024);
  buffer_.resize(kBuffer);
}

void StackCheck::prepare_unwinding() {
  modules_.clear();
  walked_ = unwind::make_walked_code();
  for (const proc::Module& m : process_.modules()) {
    std::shared_ptr<const elf::CfiTable> cfi;
    if (m.file) {
      try {
        cfi = std::make_shared<elf::CfiTable>(elf::CfiTable::from_file(m.file));
      } catch (const Error&) {
        cfi = nullptr;  // frames of this module can't be unwound: they count as busy
      }
    }
    for (LiveRange r : m.executable) {
      modules_.push_back({m.path, r, m.bias, cfi});
    }
  }
  std::sort(modules_.begin(), modules_.end(),
            [](const auto& a, const auto& b) { return a.range.start < b.range.start; });
  can_unwind_ = true;
}

const proc::Mapping* StackCheck::stack_mapping(LiveAddr sp) const {
  auto it = std::upper_bound(mappings_.begin(), mappings_.end(), sp,
                             [](LiveAddr a, const auto& m) { return a < m.range.start; });
  if (it == mappings_.begin() || !(--it)->range.contains(sp) || !it->readable) {
    return nullptr;
  }
  return &*it;
}

// While the process is frozen. Maps from before can be behind: a stack that grew, or a thread that was
// born since.
const proc::Mapping* StackCheck::find_stack_mapping(LiveAddr sp) {
  const proc::Mapping* mapping = stack_mapping(sp);
  if (mapping == nullptr && !maps_are_fresh_) {
    prepare();
    maps_are_fresh_ = true;
    mapping = stack_mapping(sp);
  }
  return mapping;
}

void StackCheck::find_stacks(const proc::Frozen& frozen) {
  stacks_.clear();
  for (size_t i = 0; i < frozen.threads().size(); ++i) {
    const proc::StoppedThread& thread = frozen.threads()[i];
    if (thread.kernel_only) {
      continue;
    }
    const LiveAddr sp(align_down(thread.registers.rsp, 8));
    const proc::Mapping* mapping = find_stack_mapping(sp);
    if (mapping == nullptr) {
      inside_.push_back(
          {.tid = thread.tid,
           .at = LiveAddr(thread.registers.rip),
           .reason = fmt::format("its stack pointer {:#x} is in no mapping", sp.value),
           .registers = thread.registers});
    } else if (is_hook_stack_name(mapping->name)) {
      inside_.push_back({thread.tid,
                         LiveAddr(thread.registers.rip),
                         {},
                         "it runs a hook of an interrupted run, its own stack is elsewhere"});
    } else {
      const LiveRange range = mapping->range;
      stacks_.push_back({i, {sp, range.end}});
      if (inside_any(ranges_, LiveAddr(thread.registers.rip))) {
        note_hit(thread, stacks_.back(), std::nullopt);
      }
      add_left_stack(i, thread, range);
    }
  }
}

// `mapping`: of its stack pointer. A control block lies at the top of its thread's stack, so that most
// threads are seen at once to be on their own.
void StackCheck::add_left_stack(size_t index, const proc::StoppedThread& thread,
                                LiveRange mapping) {
  const LiveAddr sp(thread.registers.rsp), control_block(thread.registers.fs_base);
  if (for_contexts_.empty() || (mapping.contains(control_block) && sp < control_block)) {
    return;
  }
  const auto own = find_own_stack(process_, mappings_, thread);
  if (!own || own->contains(sp)) {
    return;
  }
  for (const LiveRange part : pagemap_.resident(*own)) {
    stacks_.push_back({index, part, own});
  }
}

// The stacks of those whom signals interrupted, from the signal frames in a stack.
void StackCheck::add_interrupted(const proc::StoppedThread& thread, const Stack& stack,
                                 ByteView part) {
  constexpr size_t kMost = 4096;  // of a thread
  for (const LiveAddr interrupted : unwind::interrupted_stacks(part)) {
    const LiveAddr sp(align_down(interrupted.value, 8));
    const auto has_it = [&](const Stack& s) {
      return !s.left && s.thread == stack.thread && s.range.contains(sp);
    };
    if (has_it(stack) || std::any_of(stacks_.begin(), stacks_.end(), has_it)) {
      continue;
    }
    const proc::Mapping* mapping = find_stack_mapping(sp);
    if (mapping == nullptr) {
      continue;  // a stale frame: nothing could return there
    }
    stacks_.push_back({stack.thread, {sp, mapping->range.end}});
    const auto all = std::count_if(stacks_.begin(), stacks_.end(),
                                   [&](const Stack& s) { return s.thread == stack.thread; });
    if (static_cast<size_t>(all) > kMost) {
      inside_.push_back({.tid = thread.tid,
                         .at = LiveAddr(thread.registers.rip),
                         .reason = "its stacks hold too many signal frames",
                         .registers = thread.registers});
      return;
    }
  }
}

// `word`: of the stack; nullopt: its program counter.
void StackCheck::note_hit(const proc::StoppedThread& thread, const Stack& stack,
                          std::optional<uint64_t> word) {
  auto hit = std::find_if(hits_.begin(), hits_.end(),
                          [&](const Hit& h) { return h.thread.tid == thread.tid; });
  if (hit == hits_.end()) {
    hit = hits_.insert(hits_.end(), {.thread = thread});
  }
  hit->on_live_stack |= !stack.left;
  if (stack.left && word) {
    hit->left = stack.left;
    hit->word = *word;
  }
}

// False: not all of it can be read. A signal frame is found also where two parts meet.
bool StackCheck::read_by_parts(LiveRange stack, const std::function<void(ByteView)>& look) {
  constexpr uint64_t kStep = kBuffer - kSignalFrameWords * sizeof(uint64_t);
  for (LiveAddr at = stack.start; at < stack.end; at += kStep) {
    const ByteSpan part =
        ByteSpan(buffer_).first(std::min<uint64_t>(kBuffer, static_cast<uint64_t>(stack.end - at)));
    if (!process_.memory().try_read(at, part)) {
      return false;
    }
    look(part);
  }
  return true;
}

// As many stacks at once as fit into the buffer, which stays in the processor's cache: one that holds
// all stacks of 10,000 threads takes longer to fill than they do to be looked through. Stacks are added
// meanwhile.
void StackCheck::scan_stacks(const proc::Frozen& frozen) {
  std::vector<proc::Memory::Piece> pieces;
  pieces.reserve(kAtOnce);
  for (size_t next = 0; next < stacks_.size();) {
    const size_t first = next;
    size_t used = 0;
    pieces.clear();
    for (; next < stacks_.size() && pieces.size() < kAtOnce; ++next) {
      const LiveRange stack = stacks_[next].range;
      if (stack.size() > kBuffer - used) {
        break;
      }
      pieces.push_back({stack.start, ByteSpan(buffer_).subspan(used, stack.size())});
      used += stack.size();
    }
    const bool together = !pieces.empty() && process_.memory().read_pieces(pieces);
    if (pieces.empty()) {
      ++next;  // one that does not fit at all
    }
    for (size_t i = first; i < next; ++i) {
      const Stack stack = stacks_[i];
      const proc::StoppedThread& thread = frozen.threads()[stack.thread];
      const auto look = [&](ByteView part) {
        const auto words = unwind::scan_words(part, stack.left ? for_contexts_ : ranges_);
        if (!words.empty()) {
          note_hit(thread, stack, load<uint64_t>(part, words.front()));
        }
        if (!stack.left) {
          add_interrupted(thread, stack, part);
        }
      };
      if (together) {
        look(pieces[i - first].out);
      } else if (!read_by_parts(stack.range, look)) {
        inside_.push_back({.tid = thread.tid,
                           .at = stack.range.start,
                           .reason = "its stack can't be read",
                           .registers = thread.registers});
      }
    }
  }
}

// In the part of its stack at and above `from`.
bool StackCheck::is_hit_above(const proc::StoppedThread& thread, LiveAddr from) {
  const LiveAddr sp(align_down(thread.registers.rsp, 8));
  return std::any_of(stacks_.begin(), stacks_.end(), [&](const Stack& s) {
    if (s.range.start != sp || from < sp || s.range.end < from) {
      return s.range.start == sp;  // it is on another stack by now
    }
    bool hit = false;
    const bool whole = read_by_parts({from, s.range.end}, [&](ByteView part) {
      hit |= !unwind::scan_words(part, ranges_).empty();
    });
    return hit || !whole;
  });
}

unwind::Trace StackCheck::unwind_thread(const proc::StoppedThread& thread) const {
  return unwind::trace(dwarf_registers(thread.registers), process_.memory(), modules_,
                       walked_.get());
}

void StackCheck::judge_frames(const proc::StoppedThread& thread, unwind::Trace trace) {
  Inside found{.tid = thread.tid, .registers = thread.registers};
  for (const unwind::Frame& f : trace.frames) {
    found.frames.push_back(f.pc);
    // A return address lies behind its call, which may be the last instruction of the function.
    LiveAddr where = f.is_return_address ? f.pc - 1 : f.pc;
    if (found.reason.empty() && inside_any(ranges_, where)) {
      found.at = where;
      found.reason = f.is_return_address ? "it will return into the function" : "it runs in it";
    }
  }
  if (found.reason.empty() && trace.unexplained_from &&
      is_hit_above(thread, *trace.unexplained_from)) {
    trace.complete = false;
    trace.stopped = "its outermost code never returns, and above it is an address of the function";
  }
  if (found.reason.empty() && !trace.complete) {
    found.at = trace.frames.empty() ? LiveAddr(thread.registers.rip) : trace.frames.back().pc;
    found.reason = fmt::format(
        "its stack holds an address of the function and can't be unwound "
        "to its end: {}",
        trace.stopped);
  }
  if (!found.reason.empty()) {
    inside_.push_back(std::move(found));
  }
}

void StackCheck::judge(const Hit& hit) {
  const unwind::Trace trace = unwind_thread(hit.thread);
  // A handler on an alternate stack: the frames tell all about the stack that the thread has left.
  const bool leads_back =
      hit.left && trace.complete &&
      std::any_of(trace.frames.begin(), trace.frames.end(),
                  [&](const unwind::Frame& f) { return hit.left->contains(f.cfa); });
  if (hit.on_live_stack || leads_back) {
    judge_frames(hit.thread, trace);
  }
  if (hit.left && !leads_back) {
    inside_.push_back({.tid = hit.thread.tid,
                       .at = LiveAddr(hit.word) - 1,
                       .reason = "it runs on another stack, and its own holds an address of the "
                                 "function: a suspended context",
                       .registers = hit.thread.registers});
  }
}

void StackCheck::rehearse() {
  const std::vector<Hit> hits = std::move(hits_);
  unwind::allow_steps(*walked_, ~size_t{0});
  for (const Hit& hit : hits) {
    unwind_thread(hit.thread);
  }
  inside_.clear();
}

StackCheck::Answer StackCheck::look(const proc::Frozen& frozen) {
  inside_.clear();
  hits_.clear();
  find_stacks(frozen);
  scan_stacks(frozen);
  if (can_unwind_) {
    unwind::allow_steps(*walked_, kStepsWhileFrozen);
    for (const Hit& hit : hits_) {
      judge(hit);
    }
  }
  if (!can_unwind_ && !hits_.empty()) {
    return Answer::NeedsUnwind;
  }
  return inside_.empty() ? Answer::Clear : Answer::Busy;
}

std::vector<BusyThread> describe(const SuspendedContext& context, const proc::Process& process,
                                 const std::vector<proc::Module>& modules,
                                 const std::vector<NamedCode>& names) {
  std::vector<BusyThread> out = describe(process, {{.at = context.inside}}, modules, names);
  out.front().name = "suspended context";
  out.front().reason =
      fmt::format("{} at {:#x} in {} leads into the function",
                  context.mangled ? "a jmp_buf" : "a word", context.at.value, context.where);
  return out;
}

std::vector<BusyThread> describe(const proc::Process& process, const std::vector<Inside>& inside,
                                 const std::vector<proc::Module>& modules,
                                 const std::vector<NamedCode>& names) {
  std::vector<std::pair<const proc::Module*, match::SymbolMap>> maps;
  for (const proc::Module& m : modules) {
    if (m.file) {
      maps.emplace_back(&m, match::SymbolMap::from_file(*m.file));
    }
  }
  auto name = [&](LiveAddr address, bool with_offset) {
    for (const NamedCode& code : names) {
      if (code.range.contains(address) && !code.function.empty()) {
        return with_offset ? fmt::format("{}+{:#x}", code.function, address - code.range.start)
                           : code.function;
      }
    }
    for (const auto& [module, map] : maps) {
      if (!module->range.contains(address)) {
        continue;
      }
      LinkAddr at = module->bias(address);
      if (const match::MapEntry* e = map.function_containing(at)) {
        return with_offset ? fmt::format("{}+{:#x}", e->name, at - e->address) : e->name;
      }
      return fmt::format("{}+{:#x}", module->path.substr(module->path.rfind('/') + 1), at.value);
    }
    return std::string("?");
  };
  std::vector<BusyThread> out;
  for (const Inside& i : inside) {
    BusyThread b{.tid = i.tid, .reason = i.reason};
    b.name = process.thread_name(i.tid);
    b.waits_for = i.tid != 0 ? proc::describe_wait(process, i.registers) : "";
    b.function = name(i.at, false);
    for (LiveAddr f : i.frames) {
      b.frames.push_back(fmt::format("{:#x} {}", f.value, name(f, true)));
    }
    out.push_back(std::move(b));
  }
  return out;
}

}  // namespace qp::apply
