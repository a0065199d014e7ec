// What ld.so knows of the thread-local storage of a module.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "proc/process.h"

namespace qp::apply {

struct TlsModule {
  uint64_t number = 0;  // what __tls_get_addr is called with; not 0
  // Where the module's block begins below the thread pointer of every thread; nullopt: threads get
  // it at their first use.
  std::optional<uint64_t> below_thread_pointer;
};

// Nullopt: the process does not tell (it has no link map, a libc without the symbols that debuggers
// use, or the module has no thread-local storage).
std::optional<TlsModule> find_tls_module(const proc::Process& process,
                                         const std::vector<proc::Module>& modules,
                                         const proc::Module& module);

}  // namespace qp::apply
