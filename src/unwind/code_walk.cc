// Frames without unwind tables. musl's libc has none at all, and most threads of a process sleep in
// libc.
//
// The code itself says where a function keeps its return address: follow it from the program
// counter to a `ret`, counting what it does to the stack pointer on the way. All that is followed is
// what the thread itself will execute, so nothing has to be known of the function's beginning. Both
// sides of a branch are followed; calls come back with the stack and the preserved registers as they
// were (psABI 3.2.1).
//
// Two things could lead astray. Behind a call that never returns there is other code. So a call is
// followed over only if the function it goes to is seen to return; one that is seen never to return
// (every way ends in exit(2), a trap or a loop) ends the way; and where neither can be told nothing is
// concluded from what lies behind. A call through a pointer is taken to return, since nobody has
// pointers to functions that don't. And a jump through a table can't be followed; but the depth of the
// stack at one instruction is the same on all ways through it (as unwind tables presume too), so one
// way to a return is enough, and two that disagree are none.
//
// Code that never returns is where a stack may end. It may also be left by longjmp or by a throw; so
// what lies above its frame stays unexplained, and the caller of trace() has to look at it.
//
// Everything is bounded: instructions, depth of calls, pages that are read. A walk takes milliseconds,
// which no process may stand still for; so walks are kept (code_walk.h) and made beforehand, and what may
// be followed while it stands still is bounded for all threads together.

#include "unwind/code_walk.h"

#include <algorithm>
#include <array>
#include <set>
#include <unordered_map>
#include <vector>

#include <fmt/format.h>

#include "insn/instruction.h"
#include "insn/stack_effect.h"

namespace qp::unwind {
namespace {

using How = Left::How;

constexpr size_t kMostSteps = 20'000, kDeepest = 12;
constexpr size_t kLongestInstruction = 15;
constexpr int kRax = 0, kRcx = 2, kR11 = 11;
constexpr std::array kPreserved = {3, 6, 12, 13, 14, 15};  // rbx, rbp, r12–r15
constexpr uint64_t kSysSigreturn = 15, kSysExit = 60, kSysExitGroup = 231;

struct State {
  LiveAddr pc;
  FrameRegisters registers;
};

class Walk {
 public:
  Walk(const MemoryReader& memory, const std::vector<CodeModule>& modules, WalkedCode& walked)
      : memory_(memory), modules_(modules), walked_(walked) {}

  const auto& words() const { return words_; }

  Left leave(const FrameRegisters& registers, bool behind_call) {
    const LiveAddr pc(*registers.values[elf::kDwarfReturn]);
    if (behind_call) {
      switch (call_before(pc)) {
        case How::Returns:
          break;
        case How::Never:
          return {.how = How::Never};
        case How::Unknown:
          return {.why = fmt::format("what was called before {:#x} can't be told", pc.value)};
      }
    }
    floor_ = *registers.values[elf::kDwarfRsp];
    stored_.clear();
    Ways ways;
    follow({pc, registers}, false, ways);
    if (ways.disagree) {
      return {.why = fmt::format("ways from {:#x} disagree about the stack", pc.value)};
    }
    if (ways.found) {
      return {.how = How::Returns, .caller = *ways.found};
    }
    if (!ways.open) {
      return {.how = How::Never};
    }
    return {.why = fmt::format("no way from {:#x} to a return could be followed", pc.value)};
  }

 private:
  using Seen = std::unordered_map<LiveAddr, FrameRegisters>;

  // What was found on the ways from one place.
  struct Ways {
    std::optional<FrameRegisters> found;
    bool open = false;  // a way could not be followed to its end
    bool disagree = false;
  };

  // Of the function at `entry`.
  How classify(LiveAddr entry) {
    if (auto known = walked_.functions.find(entry); known != walked_.functions.end()) {
      return known->second;
    }
    if (depth_ >= kDeepest || std::count(entries_.begin(), entries_.end(), entry) != 0) {
      return How::Unknown;
    }
    ++depth_;
    entries_.push_back(entry);
    // Any stack will do.
    State state{entry, {}};
    state.registers.values[elf::kDwarfRsp] = 0;
    Ways ways;
    follow(state, true, ways);
    entries_.pop_back();
    --depth_;
    const How how = ways.found ? How::Returns : ways.open ? How::Unknown : How::Never;
    if (how != How::Unknown) {  // from deeper down more may be seen
      walked_.functions.emplace(entry, how);
    }
    return how;
  }

  // Does the call that ends at `pc` come back?
  How call_before(LiveAddr pc) {
    constexpr uint64_t kDirect = 5;
    for (const uint64_t length :
         {kDirect, uint64_t{2}, uint64_t{3}, uint64_t{4}, uint64_t{6}, uint64_t{7}, uint64_t{8}}) {
      const ByteView code = read(pc - length);
      const auto call = insn::decode(code, 0);
      if (!call || !call->is_call || call->length != length) {
        continue;
      }
      const auto to = call->branch_target();
      return to ? classify(pc - length + static_cast<uint64_t>(*to)) : How::Returns;
    }
    return How::Unknown;
  }

  void follow(State first, bool until_return, Ways& ways) {
    std::vector<State> todo = {std::move(first)};
    Seen seen;
    while (!todo.empty() && !ways.disagree) {
      State state = std::move(todo.back());
      todo.pop_back();
      while (join(seen, state, ways) && step(state, todo, ways)) {
      }
      if (until_return && ways.found) {
        return;
      }
    }
  }

  // False: everything from here on is known.
  bool join(Seen& seen, State& state, Ways& ways) {
    const auto [known, is_new] = seen.try_emplace(state.pc, state.registers);
    if (is_new) {
      return true;
    }
    if (known->second.values[elf::kDwarfRsp] != state.registers.values[elf::kDwarfRsp]) {
      ways.disagree = true;
      return false;
    }
    if (!forget_differences(known->second, state.registers)) {
      return false;
    }
    state.registers = known->second;
    return true;
  }

  // Keeps what both say. True if that is less than `known` was.
  static bool forget_differences(FrameRegisters& known, const FrameRegisters& other) {
    bool less = false;
    for (size_t i = 0; i < known.values.size(); ++i) {
      if (known.values[i] && known.values[i] != other.values[i]) {
        known.values[i].reset();
        less = true;
      }
    }
    return less;
  }

  // One instruction. False: this way ends.
  bool step(State& state, std::vector<State>& todo, Ways& ways) {
    const bool allowed = ++steps_ <= kMostSteps && walked_.steps_left > 0;
    walked_.steps_left -= allowed ? 1 : 0;
    const ByteView code = allowed ? read(state.pc) : ByteView();
    const auto instruction = insn::decode(code, 0);
    const auto effect = instruction ? insn::stack_effect(code, 0) : std::nullopt;
    if (!effect || !effect->known || !apply(*effect, state.registers)) {
      ways.open = true;
      return false;
    }
    const LiveAddr next = state.pc + instruction->length;
    const auto to = instruction->branch_target();
    const LiveAddr target = to ? state.pc + static_cast<uint64_t>(*to) : next;
    switch (instruction->flow) {
      case insn::Flow::Next:
        if (effect->is_syscall && !comes_back(state.registers, ways)) {
          return false;
        }
        state.pc = next;
        return true;
      case insn::Flow::Jump:
        state.pc = target;
        return true;
      case insn::Flow::Branch:
        todo.push_back({target, state.registers});
        state.pc = next;
        return true;
      case insn::Flow::Call:
        if (to) {
          const How how = classify(target);
          ways.open |= how == How::Unknown;
          if (how != How::Returns) {
            return false;
          }
        }
        forget_clobbered(state.registers);
        state.pc = next;
        return true;
      case insn::Flow::IndirectJump:
        return enter(*effect, state, ways);
      case insn::Flow::Return:
        finish(*instruction, state.registers, ways);
        return false;
      case insn::Flow::Stop:
        return false;
    }
    return false;
  }

  // False: the stack pointer would not be known.
  bool apply(const insn::StackEffect& effect, FrameRegisters& registers) {
    const auto sp = registers.values[elf::kDwarfRsp], frame = registers.values[elf::kDwarfRbp];
    const auto rax = registers.values[kRax];
    for (size_t i = 0; i < registers.values.size(); ++i) {
      if ((effect.written >> i & 1) != 0) {
        registers.values[i].reset();
      }
    }
    if (effect.load) {
      const auto base = effect.load->from_frame ? frame : sp;
      registers.values[effect.load->reg] =
          base ? load_saved(*base + static_cast<uint64_t>(effect.load->offset)) : std::nullopt;
    }
    if (effect.store && depth_ == 0) {
      if (const auto base = effect.store->from_frame ? frame : sp) {
        const uint64_t at = *base + static_cast<uint64_t>(effect.store->offset);
        for (uint64_t slot = align_down(at, 8); slot < at + effect.store->size; slot += 8) {
          stored_.insert(slot);
        }
      }
    }
    if (effect.frame_at && sp) {
      registers.values[elf::kDwarfRbp] = *sp + static_cast<uint64_t>(*effect.frame_at);
    }
    if (effect.rax) {
      registers.values[kRax] = effect.rax;
    } else if (effect.al && rax) {
      registers.values[kRax] = (*rax & ~uint64_t{0xff}) | *effect.al;
    }
    const auto from = effect.from_frame ? frame : sp;
    if (!from) {
      return false;
    }
    registers.values[elf::kDwarfRsp] = *from + static_cast<uint64_t>(effect.delta);
    return true;
  }

  // What lies there was saved before; what is stored on the way is not known.
  std::optional<uint64_t> load_saved(uint64_t at) {
    return depth_ == 0 && at >= floor_ && !stored_.contains(align_down(at, 8))
               ? read_word(LiveAddr(at))
               : std::nullopt;
  }

  std::optional<uint64_t> read_word(LiveAddr at) {
    const auto word = find_word(memory_, at);
    words_.emplace_back(at, word);
    return word;
  }

  static bool comes_back(FrameRegisters& registers, Ways& ways) {
    const auto number = registers.values[kRax];
    if (number == kSysExit || number == kSysExitGroup) {
      return false;
    }
    if (number == kSysSigreturn) {
      ways.open = true;
      return false;
    }
    for (int reg : {kRax, kRcx, kR11}) {
      registers.values[static_cast<size_t>(reg)].reset();
    }
    return true;
  }

  static void forget_clobbered(FrameRegisters& registers) {
    for (size_t i = 0; i < elf::kDwarfReturn; ++i) {
      const bool kept = i == elf::kDwarfRsp ||
                        std::count(kPreserved.begin(), kPreserved.end(), static_cast<int>(i)) != 0;
      if (!kept) {
        registers.values[i].reset();
      }
    }
  }

  // A stub of a PLT goes where its slot says; other jumps through memory or registers lead anywhere.
  bool enter(const insn::StackEffect& effect, State& state, Ways& ways) {
    const auto to = effect.through ? read_word(state.pc + static_cast<uint64_t>(*effect.through))
                                   : std::nullopt;
    if (!to || find_module(modules_, LiveAddr(*to)) == nullptr) {
      ways.open = true;
      return false;
    }
    state.pc = LiveAddr(*to);
    return true;
  }

  void finish(const insn::Instruction& instruction, const FrameRegisters& at_return, Ways& ways) {
    const uint64_t slot = *at_return.values[elf::kDwarfRsp];
    FrameRegisters caller;
    for (int reg : kPreserved) {
      caller.values[static_cast<size_t>(reg)] = at_return.values[static_cast<size_t>(reg)];
    }
    caller.values[elf::kDwarfRsp] = slot + 8;
    if (depth_ == 0) {
      caller.values[elf::kDwarfReturn] = read_word(LiveAddr(slot));
    }
    if (instruction.immediate.size != 0 || instruction.length > 2) {  // ret $n, iret
      ways.open = true;
    } else if (!ways.found) {
      ways.found = caller;
    } else if (ways.found->values[elf::kDwarfRsp] != caller.values[elf::kDwarfRsp]) {
      ways.disagree = true;
    } else {
      forget_differences(*ways.found, caller);
    }
  }

  // The bytes at `at`, enough for an instruction where there are so many, until the next read. Empty: it
  // is no code.
  ByteView read(LiveAddr at) {
    spill_.clear();
    if (find_module(modules_, at) == nullptr) {
      return spill_;
    }
    while (spill_.size() < kLongestInstruction) {
      const uint64_t here = at.value + spill_.size(), start = align_down(here, kPageSize);
      auto [page, is_new] = walked_.pages.try_emplace(start);
      if (is_new) {
        page->second.resize(kPageSize);
        page->second.resize(memory_.read_some(LiveAddr(start), page->second));
      }
      const uint64_t offset = here - start;
      if (offset >= page->second.size()) {
        break;
      }
      const ByteView rest = ByteView(page->second).subspan(offset);
      if (spill_.empty() && rest.size() >= kLongestInstruction) {
        return rest.first(kLongestInstruction);
      }
      append_bytes(spill_, rest.first(std::min(kLongestInstruction - spill_.size(), rest.size())));
    }
    return spill_;
  }

  const MemoryReader& memory_;
  const std::vector<CodeModule>& modules_;
  WalkedCode& walked_;
  std::vector<LiveAddr> entries_;  // of the functions that are being looked at
  size_t depth_ = 0, steps_ = 0;
  uint64_t floor_ = 0;  // the stack pointer where the walk began
  Bytes spill_;         // an instruction across pages
  std::vector<std::pair<LiveAddr, std::optional<uint64_t>>> words_;  // that were read
  std::set<uint64_t> stored_;  // words of the stack that are written on some way
};

}  // namespace

Left walk_to_return(const FrameRegisters& registers, bool behind_call, const MemoryReader& memory,
                    const std::vector<CodeModule>& modules, WalkedCode& walked) {
  const WalkedCode::Question question{registers.values, behind_call};
  const auto made = walked.walks.find(question);
  if (made != walked.walks.end() &&
      std::all_of(made->second.words.begin(), made->second.words.end(),
                  [&](const auto& word) { return find_word(memory, word.first) == word.second; })) {
    return made->second.left;
  }
  Walk walk(memory, modules, walked);
  Left left = walk.leave(registers, behind_call);
  if (walked.steps_left == 0) {
    if (left.how == How::Unknown) {
      left.why = "following its code takes too long for a process that stands still";
    }
    return left;
  }
  walked.walks.insert_or_assign(question, WalkedCode::Made{walk.words(), left});
  return left;
}

// The stack pointer is on the ucontext. Its registers: r8 to r15, rdi, rsi, rbp, rbx, rdx, rax, rcx,
// rsp, rip (Linux arch/x86/include/uapi/asm/sigcontext.h); the restorer: glibc and musl alike.
std::optional<FrameRegisters> find_interrupted(LiveAddr pc, LiveAddr sp,
                                               const MemoryReader& memory) {
  constexpr std::array<uint8_t, 9> kRestorer = {0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0,  // mov $15,%rax
                                                0x0f, 0x05};                      // syscall
  constexpr std::array kOrder = {8, 9, 10, 11, 12, 13, 14, 15, 5, 4, 6, 3, 1, 0, 2, 7, 16};
  constexpr uint64_t kRegistersAt = 40;
  Bytes code(kRestorer.size());
  if (!memory.try_read(pc, code) ||
      !std::equal(kRestorer.begin(), kRestorer.end(), code.begin(),
                  [](uint8_t want, std::byte have) { return std::byte{want} == have; })) {
    return std::nullopt;
  }
  Bytes saved(kOrder.size() * 8);
  if (!memory.try_read(sp + kRegistersAt, saved)) {
    return std::nullopt;
  }
  FrameRegisters out;
  for (size_t i = 0; i < kOrder.size(); ++i) {
    out.values[static_cast<size_t>(kOrder[i])] = load<uint64_t>(saved, i * 8);
  }
  return out;
}

}  // namespace qp::unwind
