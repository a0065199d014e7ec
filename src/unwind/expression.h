// Evaluates the DWARF expressions of unwind tables. Private to unwind.
#pragma once

#include <array>
#include <optional>
#include <vector>

#include "base/memory_reader.h"
#include "elf/cfi.h"

namespace qp::unwind {

// The registers of one frame. After a step up, those that the tables call undefined are not known.
struct FrameRegisters {
  std::array<std::optional<uint64_t>, elf::kDwarfRegisters> values;
};

// The top of the stack after the last operation, which starts with `cfa` on it if there is one.
// Nullopt: an operation that does not occur in unwind tables, a register that is not known, memory
// that can't be read, or an empty stack. Never a guess.
std::optional<uint64_t> evaluate(const std::vector<elf::FrameOp>& ops,
                                 const FrameRegisters& registers, const MemoryReader& memory,
                                 std::optional<uint64_t> cfa);

}  // namespace qp::unwind
