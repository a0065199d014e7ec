// What an instruction does to the stack pointer and to what a caller gets back. For following code
// that has no unwind tables.
#pragma once

#include <cstdint>
#include <optional>

#include "base/bytes.h"

namespace qp::insn {

// General registers are numbered as in DWARF (psABI figure 3.36): 0 rax, 3 rbx, 6 rbp, 7 rsp, …
struct StackEffect {
  bool known = true;        // false: the stack pointer becomes something else
  bool from_frame = false;  // the new stack pointer is rbp + delta, not rsp + delta
  int64_t delta = 0;        // of a call and a return: 0
  uint32_t written = 0;     // bit mask of registers that change, rsp excepted
  // Places on the stack are rsp or rbp (as they were before) + offset.
  struct Load {  // of a whole register
    uint8_t reg = 0;
    bool from_frame = false;
    int64_t offset = 0;
  };
  std::optional<Load> load;
  struct Store {
    bool from_frame = false;
    int64_t offset = 0;
    uint64_t size = 0;
  };
  std::optional<Store> store;
  std::optional<int64_t> frame_at;  // rbp becomes rsp + this
  // A number that rax, or al alone, gets.
  std::optional<uint64_t> rax, al;
  bool is_syscall = false;
  // Of `jmp *disp(%rip)` and `call *disp(%rip)`: the distance of the word from the start of the
  // instruction.
  std::optional<int64_t> through;
};

// Nullopt: not an instruction.
std::optional<StackEffect> stack_effect(ByteView code, uint64_t offset);

}  // namespace qp::insn
