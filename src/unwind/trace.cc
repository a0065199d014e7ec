// The unwinder: who called whom, by the rules of .eh_frame.
//
// It answers one question: is a thread inside a function that is to be replaced? A wrong "no" is a
// crash, so the walk has two outcomes only. Either it goes from frame to frame by rules that were
// found and evaluated, up to a frame whose rules say that there is no caller (return address
// undefined: _start, and the child's side of clone and clone3 in glibc), or it is incomplete, and
// says why. There are no heuristics between: no frame pointer walk, no scan for something like a
// return address, and a return address of 0 or an unmapped one is no end. Where there is no table the
// code is followed to its return (code_walk.cc).
//
// Three things to know about frames:
//   - A return address points behind its call. If the call never returns, that is the next
//     function; so callers are looked up one byte earlier. A frame that a signal interrupted was
//     not left by a call: its program counter is looked up as it is. The tables mark the trampoline
//     in between ('S'; glibc sysdeps/unix/sysv/linux/x86_64/libc_sigaction.c:__restore_rt, the
//     kernel's vdso).
//   - Each CFA lies above the stack pointer of its frame, which makes loops impossible, except
//     across a signal frame: the handler may run on an alternate stack anywhere. A chain of forged
//     signal frames is ended by the limit.
//   - A register is what the frame below left in it, unless a rule says otherwise. One that a rule
//     calls undefined is not known from there on, and an expression that needs it has no value.
//
// System V psABI for x86-64, sections 3.7 and 6.2; DWARF 5, section 6.4.4.

#include <algorithm>

#include <fmt/format.h>

#include "unwind/code_walk.h"
#include "unwind/expression.h"
#include "unwind/unwind.h"

namespace qp::unwind {
namespace {

constexpr size_t kMostFrames = 4096;

class Walker {
 public:
  Walker(const Registers& registers, const MemoryReader& memory,
         const std::vector<CodeModule>& modules, WalkedCode& walked)
      : memory_(memory), modules_(modules), walked_(walked) {
    for (size_t i = 0; i < registers.values.size(); ++i) {
      registers_.values[i] = registers.values[i];
    }
  }

  Trace walk() {
    bool is_return_address = false;
    while (out_.frames.size() < kMostFrames) {
      Frame frame;
      frame.pc = LiveAddr(*registers_.values[elf::kDwarfReturn]);
      frame.is_return_address = is_return_address;
      out_.frames.push_back(frame);
      if (!step(out_.frames.back())) {
        return std::move(out_);
      }
      is_return_address = !out_.frames.back().is_signal;
    }
    stop(fmt::format("more than {} frames", kMostFrames));
    return std::move(out_);
  }

 private:
  bool stop(std::string why) {
    out_.stopped = std::move(why);
    return false;
  }

  // One frame up. False: the walk has ended, and why is said.
  bool step(Frame& frame) {
    const LiveAddr lookup = frame.is_return_address ? frame.pc - 1 : frame.pc;
    const CodeModule* module = find_module(modules_, lookup);
    if (module == nullptr) {
      return stop(fmt::format("{:#x} is in no module", frame.pc.value));
    }
    std::optional<elf::FrameRules> rules;
    if (module->cfi) {
      rules = module->cfi->find_rules(module->bias(lookup));
    }
    if (!rules || !rules->signal_frame) {
      if (auto interrupted = find_interrupted(frame)) {
        frame.is_signal = true;
        registers_ = *interrupted;
        return true;
      }
    }
    if (!rules) {
      return walk_code(frame, module->name);
    }
    frame.is_signal = rules->signal_frame;

    auto cfa = evaluate(rules->cfa, registers_, memory_, std::nullopt);
    if (!cfa) {
      return stop(
          fmt::format("the frame of {:#x} in {} can't be computed", frame.pc.value, module->name));
    }
    frame.cfa = LiveAddr(*cfa);
    // The outermost frame is known by its rules; it has no caller whose stack could lie anywhere.
    if (rules->registers[elf::kDwarfReturn].kind == elf::RegisterRule::Kind::Undefined) {
      out_.complete = true;
      return false;
    }
    const auto& sp = registers_.values[elf::kDwarfRsp];
    if (!rules->signal_frame && (!sp || *cfa <= *sp)) {
      return stop(fmt::format("the frame of {:#x} in {} does not lie above the one below it",
                              frame.pc.value, module->name));
    }
    return restore(*rules, *cfa, frame, module->name);
  }

  std::optional<FrameRegisters> find_interrupted(const Frame& frame) const {
    const auto& sp = registers_.values[elf::kDwarfRsp];
    return frame.is_return_address && sp
               ? unwind::find_interrupted(frame.pc, LiveAddr(*sp), memory_)
               : std::nullopt;
  }

  // No table describes this code: what will it do?
  bool walk_code(Frame& frame, const std::string& module) {
    const auto sp = registers_.values[elf::kDwarfRsp];
    Left left = sp ? walk_to_return(registers_, frame.is_return_address, memory_, modules_, walked_)
                   : Left{};
    if (left.how == Left::How::Unknown) {
      return stop(fmt::format("no unwind entry for {:#x} in {}{}{}", frame.pc.value, module,
                              left.why.empty() ? "" : ", and ", left.why));
    }
    frame.cfa = LiveAddr(*sp);
    if (left.how == Left::How::Never) {
      out_.complete = true;
      out_.unexplained_from = LiveAddr(*sp);
      return false;
    }
    frame.cfa = LiveAddr(*left.caller.values[elf::kDwarfRsp]);
    if (frame.cfa.value <= *sp) {
      return stop(fmt::format("the frame of {:#x} in {} does not lie above the one below it",
                              frame.pc.value, module));
    }
    if (!left.caller.values[elf::kDwarfReturn]) {
      return stop(
          fmt::format("the return address of {:#x} in {} can't be read", frame.pc.value, module));
    }
    registers_ = left.caller;
    return true;
  }

  bool restore(const elf::FrameRules& rules, uint64_t cfa, const Frame& frame,
               const std::string& module) {
    FrameRegisters caller;
    for (int i = 0; i < elf::kDwarfRegisters; ++i) {
      caller.values[static_cast<size_t>(i)] = find_value(rules.registers[i], i, cfa);
    }
    if (!caller.values[elf::kDwarfReturn]) {
      return stop(
          fmt::format("the return address of {:#x} in {} can't be read", frame.pc.value, module));
    }
    registers_ = caller;
    return true;
  }

  std::optional<uint64_t> find_value(const elf::RegisterRule& rule, int number, uint64_t cfa) {
    using Kind = elf::RegisterRule::Kind;
    switch (rule.kind) {
      case Kind::Undefined:
        return std::nullopt;
      case Kind::SameValue:
        if (number == elf::kDwarfReturn) {
          return std::nullopt;  // a frame that returns to itself
        }
        // The CFA is by definition the caller's stack pointer (psABI 6.2).
        return number == elf::kDwarfRsp ? cfa : registers_.values[static_cast<size_t>(number)];
      case Kind::InRegister:
        return rule.reg >= 0 && rule.reg < elf::kDwarfRegisters
                   ? registers_.values[static_cast<size_t>(rule.reg)]
                   : std::nullopt;
      case Kind::IsValue:
        return evaluate(rule.ops, registers_, memory_, cfa);
      case Kind::AtAddress: {
        auto at = evaluate(rule.ops, registers_, memory_, cfa);
        uint64_t value = 0;
        if (!at || !memory_.try_read(LiveAddr(*at), std::as_writable_bytes(std::span(&value, 1)))) {
          return std::nullopt;
        }
        return value;
      }
    }
    return std::nullopt;
  }

  const MemoryReader& memory_;
  const std::vector<CodeModule>& modules_;
  WalkedCode& walked_;
  FrameRegisters registers_;
  Trace out_;
};

}  // namespace

const CodeModule* find_module(const std::vector<CodeModule>& modules, LiveAddr pc) {
  auto after = std::upper_bound(modules.begin(), modules.end(), pc,
                                [](LiveAddr a, const CodeModule& m) { return a < m.range.start; });
  if (after == modules.begin() || !std::prev(after)->range.contains(pc)) {
    return nullptr;
  }
  return &*std::prev(after);
}

std::shared_ptr<WalkedCode> make_walked_code() {
  return std::make_shared<WalkedCode>();
}

void allow_steps(WalkedCode& walked, size_t steps) {
  walked.steps_left = steps;
}

Trace trace(const Registers& registers, const MemoryReader& memory,
            const std::vector<CodeModule>& modules, WalkedCode* walked) {
  WalkedCode own;
  return Walker(registers, memory, modules, walked != nullptr ? *walked : own).walk();
}

}  // namespace qp::unwind
