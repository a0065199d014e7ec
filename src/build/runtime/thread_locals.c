// New thread-local variables of a patch, in a process whose threads are there already.
//
// A thread's static block has no room for them (and code that was compiled to find a variable at a
// fixed distance from the thread pointer can't be given another place), ld.so knows nothing of the
// image, and malloc may be what is being patched. So each thread gets a block of its own, mapped when
// it first touches one of the variables, and filled from the image. Which block is whose is kept
// where libc keeps it for everybody, in thread-specific data: it is cleared when a new thread gets
// the memory of a dead one, whatever ended that one, and libc calls back when a thread ends.
//
// The destructors of other keys may run after ours and touch a variable again, and must find its
// value. libc goes round as long as destructors set new data, PTHREAD_DESTRUCTOR_ITERATIONS times (4
// in glibc and musl). So the block is put back until the last round.
//
// All of it may be interrupted by a handler that needs the same: signals are blocked while a block is
// made. What a handler still finds is a thread without a block, or with a whole one.
//
// The key is never deleted: after a revert the image stays mapped (apply/escape.cc: its address is
// handed out here), the threads keep their blocks, and the same patch finds them when it comes again.

#include "runtime.h"

// The thread-specific data of libc; pthread_key_t is an unsigned int in glibc and musl.
int pthread_key_create(unsigned* made, void (*destructor)(void*));
int pthread_key_delete(unsigned made);
void* pthread_getspecific(unsigned of);
int pthread_setspecific(unsigned of, const void* value);

enum { kRounds = 4 };
// Behind the variables of a block.
struct tail {
  word rounds;
};

// The key and one, 0: there is none.
static unsigned key_and_one;
static word block_size;  // with the tail, whole pages
static word tail_at;

static void end_of_thread(void* block) {
  struct tail* tail = (struct tail*)((char*)block + tail_at);
  const unsigned key = __atomic_load_n(&key_and_one, __ATOMIC_ACQUIRE) - 1;
  const word signals = block_signals();
  // Made by a handler between libc's clearing of the data and here.
  void* another = pthread_getspecific(key);
  if (another) {
    call_kernel(kUnmap, (word)another, block_size, 0, 0, 0, 0);
  }
  if (++tail->rounds == kRounds || pthread_setspecific(key, block) != 0) {
    if (another) {
      pthread_setspecific(key, 0);
    }
    call_kernel(kUnmap, (word)block, block_size, 0, 0, 0, 0);
  }
  restore_signals(signals);
}

// Several threads may be the first; nobody waits for another one, which may be interrupted here, or
// be missing in the child of a fork().
static unsigned make_key(const struct tls_block* block) {
  unsigned known = __atomic_load_n(&key_and_one, __ATOMIC_ACQUIRE), made = 0;
  if (known != 0) {
    return known - 1;
  }
  const word tail = (block->size + sizeof(struct tail) - 1) & -sizeof(struct tail);
  __atomic_store_n(&tail_at, tail, __ATOMIC_RELAXED);
  __atomic_store_n(&block_size, (tail + sizeof(struct tail) + kPage - 1) & -(word)kPage,
                   __ATOMIC_RELAXED);
  if (pthread_key_create(&made, end_of_thread) != 0) {
    static const char why[] = "qpatch: no key for thread-local variables\n";
    give_up(why, sizeof why - 1);
  }
  if (__atomic_compare_exchange_n(&key_and_one, &known, made + 1, 0, __ATOMIC_ACQ_REL,
                                  __ATOMIC_ACQUIRE)) {
    return made;
  }
  pthread_key_delete(made);
  return known - 1;
}

// Out of line, so that the usual way saves no registers.
static __attribute__((noinline)) char* make_block(const struct tls_block* block) {
  const word signals = block_signals();
  const unsigned key = make_key(block);
  char* made = pthread_getspecific(key);  // by a handler, just now
  if (!made) {
    static const char why[] = "qpatch: no memory for thread-local variables\n";
    made = map_memory(block_size);
    if (!made) {
      give_up(why, sizeof why - 1);
    }
    copy_bytes(made, block->initial, block->initial_size);
    if (pthread_setspecific(key, made) != 0) {
      give_up(why, sizeof why - 1);
    }
  }
  restore_signals(signals);
  return made;
}

// Old compilers call __tls_get_addr on a stack that is not aligned (GCC bug 58066).
__attribute__((force_align_arg_pointer)) void* qpatch_tls_get_addr(const struct tls_index* index) {
  const unsigned known = __atomic_load_n(&key_and_one, __ATOMIC_ACQUIRE);
  if (known != 0) {
    char* block = pthread_getspecific(known - 1);
    if (block) {
      return block + index->offset;
    }
  }
  return make_block(index->block) + index->offset;
}
