// Who is inside: a conservative scan of stack words, and an unwinder for the threads where the scan
// hits. Pure: registers and memory in, frames out.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/address.h"
#include "base/memory_reader.h"
#include "elf/cfi.h"

namespace qp::unwind {

struct Registers {
  // DWARF numbering (elf/cfi.h): values[7] is rsp, values[16] the program counter.
  std::array<uint64_t, elf::kDwarfRegisters> values{};
  LiveAddr pc() const { return LiveAddr(values[elf::kDwarfReturn]); }
  LiveAddr sp() const { return LiveAddr(values[elf::kDwarfRsp]); }
};

struct CodeModule {
  std::string name;
  LiveRange range;  // executable mapping(s) of the module
  LoadBias bias;
  std::shared_ptr<const elf::CfiTable> cfi;  // nullptr: no unwind tables
};

struct Frame {
  LiveAddr pc;  // of a caller: the return address
  LiveAddr cfa;
  bool is_return_address = false;  // then pc − 1 is inside the call
  bool is_signal = false;
};

struct Trace {
  std::vector<Frame> frames;  // innermost first
  // True only if the last frame is a known outermost one: its CFI says that the return address is
  // undefined (_start, clone's child), or its code never returns. Else the stack counts as busy.
  bool complete = false;
  // In the second case: its stack pointer. Nobody returns into what lies above, but a longjmp could
  // lead there: a word there that looks like a return address is one.
  std::optional<LiveAddr> unexplained_from;
  std::string stopped;  // why it ended if !complete
};

// What is known of code that has no unwind tables. One for all traces of a process saves time.
struct WalkedCode;
std::shared_ptr<WalkedCode> make_walked_code();
// How many instructions may be followed from now on, in all traces together. A walk that comes to the
// end of that is not finished, and not kept; those that were made before cost nothing.
void allow_steps(WalkedCode& walked, size_t steps);

// `modules` sorted by range. `memory` must reach 128 bytes below rsp: before a `ret` the tables
// still name slots that were popped already. At most 4096 frames; a CFA that does not grow ends the
// trace (signal frames excepted).
Trace trace(const Registers& registers, const MemoryReader& memory,
            const std::vector<CodeModule>& modules, WalkedCode* walked = nullptr);

// Offsets of the 8-byte aligned words in `stack` whose value lies in one of `ranges` (sorted, not
// overlapping). A range is widened by one at its end, since a return address after a call that is
// the function's last instruction points just behind it. No false negatives; microseconds.
std::vector<size_t> scan_words(ByteView stack, const std::vector<LiveRange>& ranges);

// The stack pointers of those whom a signal interrupted, from the signal frames in `stack`; stale ones
// too. A handler can run on another stack than the code that it interrupted.
std::vector<LiveAddr> interrupted_stacks(ByteView stack);

}  // namespace qp::unwind
