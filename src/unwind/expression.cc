// A small stack machine for DWARF expressions, as far as they occur in unwind tables.
//
// Compilers use three of them: "register + offset" for ordinary rules, a deref of a saved slot in
// functions that realign their stack, and the PLT's "8 more if the program counter is behind
// the push" (breg7, breg16, lit15, and, lit11, ge, lit3, shl, plus). Hand-written tables (signal
// trampolines, OpenSSL's assembly) use a few operations more. All that only compute are here; jumps
// (DW_OP_skip, DW_OP_bra) are not, so every expression ends.
//
// The result decides where the unwinder believes the caller's frame to be. So an operation that is
// not known, an operand that is not known, a division by zero are no value at all, and the stack
// counts as busy.
//
// DWARF 5, sections 2.5.1 and 6.4.4; numbers from section 7.7.1.

#include "unwind/expression.h"

namespace qp::unwind {
namespace {

constexpr size_t kDeepest = 64;

enum Op : uint8_t {
  kDeref = 0x06,
  kConst1u = 0x08,
  kConst1s = 0x09,
  kConst2u = 0x0a,
  kConst2s = 0x0b,
  kConst4u = 0x0c,
  kConst4s = 0x0d,
  kConst8u = 0x0e,
  kConst8s = 0x0f,
  kConstu = 0x10,
  kConsts = 0x11,
  kDup = 0x12,
  kDrop = 0x13,
  kOver = 0x14,
  kPick = 0x15,
  kSwap = 0x16,
  kRot = 0x17,
  kAbs = 0x19,
  kAnd = 0x1a,
  kDiv = 0x1b,
  kMinus = 0x1c,
  kMod = 0x1d,
  kMul = 0x1e,
  kNeg = 0x1f,
  kNot = 0x20,
  kOr = 0x21,
  kPlus = 0x22,
  kPlusUconst = 0x23,
  kShl = 0x24,
  kShr = 0x25,
  kShra = 0x26,
  kXor = 0x27,
  kEq = 0x29,
  kGe = 0x2a,
  kGt = 0x2b,
  kLe = 0x2c,
  kLt = 0x2d,
  kNe = 0x2e,
  kLit0 = 0x30,
  kLit31 = 0x4f,
  kBreg0 = 0x70,
  kBreg31 = 0x8f,
  kBregx = 0x92,
  kDerefSize = 0x94,
  kNop = 0x96,
  kCallFrameCfa = 0x9c,
  kStackValue = 0x9f,
};

class Machine {
 public:
  Machine(const FrameRegisters& registers, const MemoryReader& memory, std::optional<uint64_t> cfa)
      : registers_(registers), memory_(memory), cfa_(cfa) {
    if (cfa) {
      push(*cfa);
    }
  }

  bool step(const elf::FrameOp& op) {
    if (op.atom >= kLit0 && op.atom <= kLit31) {
      return push(op.atom - kLit0);
    }
    if (op.atom >= kBreg0 && op.atom <= kBreg31) {
      return push_register(op.atom - kBreg0, op.number);
    }
    if (op.atom >= kConst1u && op.atom <= kConsts) {
      return push(op.number);  // sign-extended by the reader of the tables
    }
    switch (op.atom) {
      case kNop:
      case kStackValue:
        return true;
      case kBregx:
        return push_register(op.number, op.number2);
      case kCallFrameCfa:
        return cfa_ && push(*cfa_);
      case kPlusUconst:
        return replace_top([&](uint64_t v) { return v + op.number; });
      case kDeref:
        return deref(8);
      case kDerefSize:
        return deref(op.number);
      case kAbs:
        return replace_top([](uint64_t v) { return static_cast<int64_t>(v) < 0 ? 0 - v : v; });
      case kNeg:
        return replace_top([](uint64_t v) { return 0 - v; });
      case kNot:
        return replace_top([](uint64_t v) { return ~v; });
      default:
        return move(op) || combine(op.atom);
    }
  }

  std::optional<uint64_t> top() const {
    return stack_.empty() ? std::nullopt : std::optional(stack_.back());
  }

 private:
  bool push(uint64_t value) {
    if (stack_.size() == kDeepest) {
      return false;
    }
    stack_.push_back(value);
    return true;
  }
  bool push_register(uint64_t number, uint64_t offset) {
    if (number >= registers_.values.size() || !registers_.values[number]) {
      return false;
    }
    return push(*registers_.values[number] + offset);
  }
  template <class F>
  bool replace_top(F f) {
    if (stack_.empty()) {
      return false;
    }
    stack_.back() = f(stack_.back());
    return true;
  }
  bool deref(uint64_t size) {
    if (stack_.empty() || (size != 1 && size != 2 && size != 4 && size != 8)) {
      return false;
    }
    uint64_t word = 0;  // little-endian: the low bytes come first
    auto out = std::as_writable_bytes(std::span(&word, 1)).first(size);
    if (!memory_.try_read(LiveAddr(stack_.back()), out)) {
      return false;
    }
    stack_.back() = word;
    return true;
  }

  bool move(const elf::FrameOp& op) {
    const size_t n = stack_.size();
    switch (op.atom) {
      case kDup:
        return n >= 1 && push(stack_[n - 1]);
      case kOver:
        return n >= 2 && push(stack_[n - 2]);
      case kPick:
        return op.number < n && push(stack_[n - 1 - op.number]);
      case kDrop:
        if (n >= 1) {
          stack_.pop_back();
        }
        return n >= 1;
      case kSwap:
        if (n >= 2) {
          std::swap(stack_[n - 1], stack_[n - 2]);
        }
        return n >= 2;
      case kRot:  // the top goes to third place
        if (n >= 3) {
          std::swap(stack_[n - 1], stack_[n - 2]);
          std::swap(stack_[n - 2], stack_[n - 3]);
        }
        return n >= 3;
      default:
        return false;
    }
  }

  // Two operands: the second from the top, then the top.
  bool combine(uint8_t atom) {
    if (stack_.size() < 2) {
      return false;
    }
    const uint64_t b = stack_.back();
    const uint64_t a = stack_[stack_.size() - 2];
    auto value = compute(atom, a, b);
    if (!value) {
      return false;
    }
    stack_.pop_back();
    stack_.back() = *value;
    return true;
  }
  static std::optional<uint64_t> compute(uint8_t atom, uint64_t a, uint64_t b) {
    const auto sa = static_cast<int64_t>(a), sb = static_cast<int64_t>(b);
    switch (atom) {
      case kAnd:
        return a & b;
      case kOr:
        return a | b;
      case kXor:
        return a ^ b;
      case kPlus:
        return a + b;
      case kMinus:
        return a - b;
      case kMul:
        return a * b;
      case kDiv:
        return sb == 0 ? std::nullopt
                       : std::optional(sb == -1 ? 0 - a : static_cast<uint64_t>(sa / sb));
      case kMod:
        return b == 0 ? std::nullopt : std::optional(a % b);
      case kShl:
        return b < 64 ? a << b : 0;
      case kShr:
        return b < 64 ? a >> b : 0;
      case kShra:
        return static_cast<uint64_t>(sa >> (b < 64 ? b : 63));
      case kEq:
        return a == b;
      case kNe:
        return a != b;
      case kGe:
        return sa >= sb;
      case kGt:
        return sa > sb;
      case kLe:
        return sa <= sb;
      case kLt:
        return sa < sb;
      default:
        return std::nullopt;
    }
  }

  const FrameRegisters& registers_;
  const MemoryReader& memory_;
  std::optional<uint64_t> cfa_;
  std::vector<uint64_t> stack_;
};

}  // namespace

std::optional<uint64_t> evaluate(const std::vector<elf::FrameOp>& ops,
                                 const FrameRegisters& registers, const MemoryReader& memory,
                                 std::optional<uint64_t> cfa) {
  Machine machine(registers, memory, cfa);
  for (const elf::FrameOp& op : ops) {
    if (!machine.step(op)) {
      return std::nullopt;
    }
  }
  return machine.top();
}

}  // namespace qp::unwind
