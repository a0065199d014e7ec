// The same for a static program that can't make threads: it has no thread-specific data, and needs
// none. One block, made at the first use; a signal handler may be what uses it first.

#include "runtime.h"

static char* made;

__attribute__((force_align_arg_pointer)) void* qpatch_tls_get_addr(const struct tls_index* index) {
  char* block = __atomic_load_n(&made, __ATOMIC_ACQUIRE);
  if (!block) {
    static const char why[] = "qpatch: no memory for thread-local variables\n";
    const word signals = block_signals();
    block = __atomic_load_n(&made, __ATOMIC_ACQUIRE);
    if (!block) {
      block = map_memory((index->block->size + kPage - 1) & -(word)kPage);
      if (!block) {
        give_up(why, sizeof why - 1);
      }
      copy_bytes(block, index->block->initial, index->block->initial_size);
      __atomic_store_n(&made, block, __ATOMIC_RELEASE);
    }
    restore_signals(signals);
  }
  return block + index->offset;
}
