// The same for a static program that can't make threads: it has no thread-specific data, and needs
// none. One block, made at the first use; a signal handler may be what uses it first. `state` is its
// address.

#include "runtime.h"

__attribute__((force_align_arg_pointer)) void* qpatch_tls_get_addr(const struct tls_index* index) {
  struct tls_block* block = index->block;
  char* variables = (char*)__atomic_load_n(&block->state, __ATOMIC_ACQUIRE);
  if (!variables) {
    static const char why[] = "qpatch: no memory for thread-local variables\n";
    const word signals = block_signals();
    variables = (char*)__atomic_load_n(&block->state, __ATOMIC_ACQUIRE);
    if (!variables) {
      variables = map_memory((block->size + kPage - 1) & -(word)kPage);
      if (!variables) {
        give_up(why, sizeof why - 1);
      }
      copy_bytes(variables, block->initial, block->initial_size);
      __atomic_store_n(&block->state, (word)variables, __ATOMIC_RELEASE);
    }
    restore_signals(signals);
  }
  return variables + index->offset;
}
