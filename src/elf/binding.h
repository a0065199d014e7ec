// Where a symbol of an object is in a target: the outcome of match, stored by format, used by link.
#pragma once

#include <cstdint>
#include <string>

#include "base/address.h"

namespace qp::elf {

enum class BindingKind : uint8_t {
  Unbound,
  Address,   // in the target itself, at `address`
  TpOffset,  // thread-local of an executable: `tp_offset` from the thread pointer
  Import,    // of another module: resolved per process, as ld.so would
};

enum class Evidence : uint8_t {
  None,
  SymbolTable,  // a symbol map with FILE scopes named it, exactly one candidate
  Proof,        // solved from proven code
};

struct Binding {
  BindingKind kind = BindingKind::Unbound;
  Evidence evidence = Evidence::None;
  LinkAddr address;       // Address
  int64_t tp_offset = 0;  // TpOffset
  std::string version;    // Import: "GLIBC_2.2.5", "" if unversioned
  LinkAddr stub;          // Import: the target's own PLT entry for it; 0 if it has none
  LinkAddr got_slot;      // Import: the target's own GOT slot (GLOB_DAT/JUMP_SLOT); 0 if none
  bool operator==(const Binding&) const = default;
};

}  // namespace qp::elf
