// Code beside a function that does what one of its instructions can't at a distance. Private to link.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/bytes.h"
#include "elf/atom.h"

namespace qp::link {

// `word` fields are the distance to a word that holds an address, as R_X86_64_PC32 with the addend −4.
struct Thunk {
  Bytes code;
  uint64_t word = 0;             // of the field
  uint64_t access = 0;           // the instruction that it stands for; its field is no more
  std::optional<uint64_t> back;  // of the field of the jump behind that
  std::vector<elf::FrameEntry> frames;
};

// Goes to the address in the word; changes nothing.
Thunk make_jump_thunk();
// Goes to where the place points whose address is in the word. Changes r11, which calls do not keep
// (psABI, figure 3.4).
Thunk make_pointer_thunk();
// Does what the instruction of `function` at `start` does, whose memory operand is field(%rip) with the
// field at `field`, to the place whose address is in the word. Nullopt: it can't be done.
std::optional<Thunk> make_access_thunk(const elf::Atom& function, uint64_t start, uint64_t length,
                                       uint64_t field);

}  // namespace qp::link
