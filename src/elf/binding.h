// Where a symbol of an object is in a target: the outcome of match, stored by format, used by link.
#pragma once

#include <cstdint>
#include <string>

#include "base/address.h"

namespace qp::elf {

enum class BindingKind : uint8_t {
  Unbound,
  Address,       // in the target itself, at `address`
  TpOffset,      // thread-local of an executable: `tp_offset` from the thread pointer
  Import,        // of another module, or preemptible: resolved per process, as ld.so would
  ModuleOffset,  // thread-local of a library: `tp_offset` from the start of its TLS block
  TlsSlot,       // thread-local: reached as the target does, through its own slot at `got_slot`
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
  int64_t tp_offset = 0;  // TpOffset, ModuleOffset
  std::string version;    // Import: "GLIBC_2.2.5", "" if unversioned
  LinkAddr stub;          // Import: the target's own PLT entry for it; 0 if it has none
  LinkAddr got_slot;  // Import: the target's own GOT slot (GLOB_DAT/JUMP_SLOT), 0 if none; TlsSlot
  bool operator==(const Binding&) const = default;
};

}  // namespace qp::elf
