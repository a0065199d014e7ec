// What linkers make of instructions that fetch from the GOT or reach thread-local storage.
#pragma once

#include <cstdint>
#include <optional>

#include "base/address.h"
#include "base/bytes.h"
#include "elf/atom.h"

namespace qp::match {

// An instruction (or a fixed sequence) of an object that the linker replaced by another one.
struct Relaxed {
  enum class Kind : uint8_t {
    Address,       // the code has S + delta as `address`
    TpOffset,      // the code has tpoff(S) + delta as `value`
    TpOffsetSlot,  // the code loads tpoff(S) from the GOT slot at `address`
    ModuleBlock,   // a call for the module's TLS block became a read of the thread pointer, plus
                   // `value`: offsets count from there
  } kind = Kind::Address;
  uint64_t original_size = 0, target_size = 0;
  LinkAddr address;
  int64_t value = 0;
  int64_t delta = 0;
};

// `at`: start of the original instruction in `original`; `ref`: its first relocation. `target` are
// the bytes at `address` (as many as there are, 24 suffice). Nullopt: the target does not have one
// of the replacements there; it may still have the instruction itself.
std::optional<Relaxed> find_relaxed(ByteView original, uint64_t at, const elf::Ref& ref,
                                    ByteView target, LinkAddr address);

// True for the two bytes that replace the indirect call of a TLS descriptor sequence.
bool is_relaxed_descriptor_call(ByteView target);

}  // namespace qp::match
