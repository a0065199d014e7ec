// References to thread-local variables. Private to link.
#pragma once

#include <cstdint>
#include <optional>

#include "base/bytes.h"
#include "elf/atom.h"
#include "format/patch.h"
#include "link/image.h"
#include "link/route.h"

namespace qp::link {

// The atom of the patch that has this name; nullopt: it has none.
std::optional<elf::AtomSymbolId> find_runtime_symbol(const format::Patch& patch,
                                                     std::string_view name);

// Of a relocation of a thread-local type.
Route route_thread_local(const format::Patch& patch, const elf::Atom& atom, const elf::Ref& ref);

// True if `ref` is the call of __tls_get_addr in a sequence that is rewritten as a whole.
bool is_rewritten_call(const format::Patch& patch, const elf::Atom& atom, const elf::Ref& ref);

// Way::LocalExec: writes the sequence that `ref` belongs to anew, with the variable's `offset` from
// the thread pointer. `code`: the function's bytes; route_thread_local() has checked them.
void write_local_exec(ByteSpan code, const elf::Ref& ref, int32_t offset);

}  // namespace qp::link
