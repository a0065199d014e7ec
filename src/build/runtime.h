// The code that patches bring along: what new code calls and no target has (src/build/runtime).
// Private to build.
#pragma once

#include <functional>
#include <string>

#include "base/report.h"
#include "build/merger.h"
#include "match/symbol_map.h"

namespace qp::build {

// Is `ref`, of `atom` of `graph`, the call of __tls_get_addr that belongs to a reference to a
// thread-local variable of the graph? References before it are those of the graph already.
bool finds_new_thread_local(const elf::AtomGraph& graph, const elf::Atom& atom,
                            const elf::Ref& ref);

// Functions of the runtime that patches call by name: shadow variables (include/qpatch/hooks.h).
bool is_called_by_patches(const std::string& symbol);

using BindByName = std::function<elf::Binding(const elf::AtomSymbol&)>;

// Adds what `fresh` expects of the runtime, with all that this needs. Finding: tls-unsupported.
void add_runtime(Merger& fresh, const match::SymbolMap& symbols, const BindByName& bind_by_name,
                 Report& report);

}  // namespace qp::build
