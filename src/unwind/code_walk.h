// Finds the caller of a frame whose code has no unwind tables, by following the code. Private to
// unwind.
#pragma once

#include <array>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "unwind/expression.h"
#include "unwind/unwind.h"

namespace qp::unwind {

struct Left {
  enum class How {
    Returns,
    Never,  // it never returns: the outermost frame, or one that is left by longjmp or a throw
    Unknown
  } how = How::Unknown;
  FrameRegisters caller;  // Returns: as they are behind the return
  std::string why;        // Unknown
};

// What was read and found out about code, for all walks of one process.
struct WalkedCode {
  std::map<uint64_t, Bytes> pages;          // by address; short where memory ends
  std::map<LiveAddr, Left::How> functions;  // by entry
  // Walks that were made. The same registers give the same answer if the words that were read on
  // the way are the same: a thread that sleeps is walked once, before it counts.
  struct Made {
    std::vector<std::pair<LiveAddr, std::optional<uint64_t>>> words;
    Left left;
  };
  using Question = std::pair<std::array<std::optional<uint64_t>, elf::kDwarfRegisters>, bool>;
  std::map<Question, Made> walks;
  size_t steps_left = ~size_t{0};
};

// `registers`: of the frame; its stack pointer and program counter are known. `behind_call`: the
// program counter is a return address.
Left walk_to_return(const FrameRegisters& registers, bool behind_call, const MemoryReader& memory,
                    const std::vector<CodeModule>& modules, WalkedCode& walked);

// Whether at `pc` is the restorer of a signal frame (mov $15,%rax; syscall), and then the
// registers of who was interrupted.
std::optional<FrameRegisters> find_interrupted(LiveAddr pc, LiveAddr sp,
                                               const MemoryReader& memory);

// The module whose code `pc` is in; nullptr: none.
const CodeModule* find_module(const std::vector<CodeModule>& modules, LiveAddr pc);

}  // namespace qp::unwind
