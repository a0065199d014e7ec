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
// All state is in the block's description, in the image of the patch that brought the variables: a patch
// that takes that one's place finds the threads' blocks by it (apply/adopt.cc), and makes blocks for new
// threads. Both have the same functions.
//
// From its 33rd key on glibc allocates when a thread first sets data (nptl/pthread_setspecific.c: a
// second-level block, by calloc), and the allocator may be what is patched, and use one of the
// variables. Then the same thread comes here again before its block is set. So blocks that are about
// to be set are noted with their threads, and such a thread gets the one that it is making.
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
// Behind the variables of a thread's block; what the thread's data points to.
struct tail {
  char* variables;
  struct tls_block* block;
  word rounds;
};

static word tail_at(const struct tls_block* block) {
  return (block->size + sizeof(word) - 1) & -sizeof(word);
}
static word mapped_size(const struct tls_block* block) {  // whole pages
  return (tail_at(block) + sizeof(struct tail) + kPage - 1) & -(word)kPage;
}

// `state` is the key and one; 0: there is none.
static unsigned find_key(const struct tls_block* block) {
  return (unsigned)__atomic_load_n(&block->state, __ATOMIC_ACQUIRE) - 1;
}

static void end_of_thread(void* data) {
  struct tail* tail = data;
  const unsigned key = find_key(tail->block);
  const word size = mapped_size(tail->block);
  const word signals = block_signals();
  // Made by a handler between libc's clearing of the data and here.
  struct tail* another = pthread_getspecific(key);
  if (another) {
    call_kernel(kUnmap, (word)another->variables, size, 0, 0, 0, 0);
  }
  if (++tail->rounds == kRounds || pthread_setspecific(key, tail) != 0) {
    if (another) {
      pthread_setspecific(key, 0);
    }
    call_kernel(kUnmap, (word)tail->variables, size, 0, 0, 0, 0);
  }
  restore_signals(signals);
}

// Several threads may be the first; nobody waits for another one, which may be interrupted here, or
// be missing in the child of a fork().
static unsigned make_key(struct tls_block* block) {
  word known = __atomic_load_n(&block->state, __ATOMIC_ACQUIRE);
  unsigned made = 0;
  if (known != 0) {
    return (unsigned)known - 1;
  }
  if (pthread_key_create(&made, end_of_thread) != 0) {
    static const char why[] = "qpatch: no key for thread-local variables\n";
    give_up(why, sizeof why - 1);
  }
  if (__atomic_compare_exchange_n(&block->state, &known, (word)made + 1, 0, __ATOMIC_ACQ_REL,
                                  __ATOMIC_ACQUIRE)) {
    return made;
  }
  pthread_key_delete(made);
  return (unsigned)known - 1;
}

// The calling thread, and its process: after a fork() the child has notes of threads that it lacks.
static word calling_thread(void) {
  return (word)call_kernel(kProcessId, 0, 0, 0, 0, 0, 0) << 32 |
         (word)call_kernel(kThreadId, 0, 0, 0, 0, 0, 0);
}

// Blocks that are being set. Where more threads than this are at it at once, the others have no note.
enum { kNotes = 64 };
static struct note {
  word thread;  // 0: free
  struct tail* tail;
} notes[kNotes];

static struct tail* find_noted(word thread, const struct tls_block* block) {
  for (unsigned i = 0; i < kNotes; ++i) {
    if (__atomic_load_n(&notes[i].thread, __ATOMIC_RELAXED) == thread &&
        notes[i].tail->block == block) {
      return notes[i].tail;
    }
  }
  return 0;
}

static struct note* take_note(word thread, struct tail* tail) {
  for (unsigned i = 0; i < kNotes; ++i) {
    word known = __atomic_load_n(&notes[i].thread, __ATOMIC_RELAXED);
    if ((known == 0 || known >> 32 != thread >> 32) &&
        __atomic_compare_exchange_n(&notes[i].thread, &known, thread, 0, __ATOMIC_RELAXED,
                                    __ATOMIC_RELAXED)) {
      notes[i].tail = tail;  // for this thread only, which has no handlers now
      return &notes[i];
    }
  }
  return 0;
}

// Out of line, so that the usual way saves no registers.
static __attribute__((noinline)) char* make_variables(struct tls_block* block) {
  const word signals = block_signals();
  const unsigned key = make_key(block);
  const word thread = calling_thread();
  struct tail* tail = pthread_getspecific(key);  // by a handler, just now
  if (!tail) {
    tail = find_noted(thread, block);
  }
  if (!tail) {
    static const char why[] = "qpatch: no memory for thread-local variables\n";
    char* made = map_memory(mapped_size(block));
    if (!made) {
      give_up(why, sizeof why - 1);
    }
    copy_bytes(made, block->initial, block->initial_size);
    tail = (struct tail*)(made + tail_at(block));
    tail->variables = made;
    tail->block = block;
    struct note* note = take_note(thread, tail);
    if (pthread_setspecific(key, tail) != 0) {
      give_up(why, sizeof why - 1);
    }
    if (note) {
      __atomic_store_n(&note->thread, 0, __ATOMIC_RELAXED);
    }
  }
  restore_signals(signals);
  return tail->variables;
}

// Old compilers call __tls_get_addr on a stack that is not aligned (GCC bug 58066).
__attribute__((force_align_arg_pointer)) void* qpatch_tls_get_addr(const struct tls_index* index) {
  const word known = __atomic_load_n(&index->block->state, __ATOMIC_ACQUIRE);
  if (known != 0) {
    const struct tail* tail = pthread_getspecific((unsigned)known - 1);
    if (tail) {
      return tail->variables + index->offset;
    }
  }
  return make_variables(index->block) + index->offset;
}
