// ld.so numbers the modules that have thread-local storage, and __tls_get_addr is called with such a
// number. Number and place are in members of struct link_map that no header shows and that move from
// version to version. But debuggers need them as well, so libc tells where they are: the symbols
// _thread_db_link_map_l_tls_modid and _thread_db_link_map_l_tls_offset are descriptions of these
// members, three 32-bit words each: size in bits, number of elements, offset (glibc
// nptl_db/db_info.c, nptl_db/structs.def). Other libcs have no such symbols; then nothing is known.
//
// l_tls_offset is 0 where no place was given (NO_TLS_OFFSET), and -1 where one was refused for good
// (FORCED_DYNAMIC_TLS_OFFSET; glibc sysdeps/generic/ldsodefs.h, with TLS_TCB_AT_TP).

#include "apply/tls_modules.h"

#include "apply/scope.h"

namespace qp::apply {
namespace {

constexpr uint64_t kLargestLinkMap = 4096, kMostModules = 1 << 16;
constexpr uint64_t kLargestBlock = uint64_t{1} << 32;

// The offset of a member in struct link_map.
std::optional<uint64_t> find_member(const proc::Process& process,
                                    const std::vector<proc::Module>& modules,
                                    const std::string& symbol) {
  for (const proc::Module& module : modules) {
    const auto found = find_definition(module, symbol, "");
    if (!found) {
      continue;
    }
    const auto first = find_word(process.memory(), found->address);
    const auto second = find_word(process.memory(), found->address + 4);
    if (first && second && *first == ((uint64_t{1} << 32) | 64) &&
        (*second >> 32) <= kLargestLinkMap && (*second >> 32) % 8 == 0) {
      return *second >> 32;
    }
  }
  return std::nullopt;
}

}  // namespace

std::optional<TlsModule> find_tls_module(const proc::Process& process,
                                         const std::vector<proc::Module>& modules,
                                         const proc::Module& module) {
  const auto number_at = find_member(process, modules, "_thread_db_link_map_l_tls_modid");
  const auto offset_at = find_member(process, modules, "_thread_db_link_map_l_tls_offset");
  const auto map = find_link_map(process, modules, module);
  if (!number_at || !offset_at || !map || !module.file || !module.file->tls_block_end()) {
    return std::nullopt;
  }
  const auto number = find_word(process.memory(), *map + *number_at);
  const auto offset = find_word(process.memory(), *map + *offset_at);
  if (!number || !offset || *number == 0 || *number > kMostModules) {
    return std::nullopt;
  }
  TlsModule out;
  out.number = *number;
  if (*offset != 0 && *offset < kLargestBlock) {
    out.below_thread_pointer = *offset;
  }
  return out;
}

}  // namespace qp::apply
