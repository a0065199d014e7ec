// New code of a library reaches things in the way in which the library's own code does.
#pragma once

#include "elf/atom.h"
#include "elf/binding.h"
#include "match/symbol_map.h"

namespace qp::match {

// `binding` says where `symbol` is; the result says how a reference of type `type` gets there:
//   - a symbol that ld.so may take from another module becomes an Import, with the library's own
//     stub and slot; Evidence::None if no relocation of the library names it;
//   - a thread-local variable becomes a TlsSlot of the target's GOT if the reference goes through
//     one and the target has it.
// Anything else, and everything of an executable but imported thread-local variables, stays as it
// is.
elf::Binding as_the_target_does(elf::Binding binding, const elf::AtomSymbol& symbol,
                                elf::RelocType type, const SymbolMap& symbols);

}  // namespace qp::match
