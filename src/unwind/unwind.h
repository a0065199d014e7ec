// Who is inside: a conservative scan of stack words, and an unwinder by CFI for the threads where
// the scan hits. Pure: registers and memory in, frames out.
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
  // undefined (_start, clone's child). Else the stack counts as busy.
  bool complete = false;
  std::string stopped;  // why it ended if !complete
};

// `modules` sorted by range. `memory` must reach 128 bytes below rsp: before a `ret` the tables
// still name slots that were popped already. At most 4096 frames; a CFA that does not grow ends the
// trace (signal frames excepted).
Trace trace(const Registers& registers, const MemoryReader& memory,
            const std::vector<CodeModule>& modules);

// Offsets of the 8-byte aligned words in `stack` whose value lies in one of `ranges` (sorted, not
// overlapping). A range is widened by one at its end, since a return address after a call that is
// the function's last instruction points just behind it. No false negatives; microseconds.
std::vector<size_t> scan_words(ByteView stack, const std::vector<LiveRange>& ranges);

}  // namespace qp::unwind
