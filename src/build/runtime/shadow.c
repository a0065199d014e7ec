/* Shadow variables: fields that objects of the program gain after they were made.
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * A fix may need one more field in a structure. The objects are there and can't grow, so the field
 * lives elsewhere and is found by the object's address. This file becomes a part of every patch that
 * calls its functions (include/qpatch/hooks.h documents them), and can be compiled into a program
 * whose source has the patch in it.
 *
 * It runs in somebody else's process: in any thread, in signal handlers, in hooks while everybody
 * stands still, in a forked child. So it calls nothing: no malloc, whose lock may be held; memory
 * comes from the kernel and is kept. It uses no vector registers (it is compiled so).
 *
 * Reading takes no lock. The table is a trie of vertices, by the bits of a hash; each holds up to
 * kMost nodes in a chain, and below it are others. Vertices and nodes are only ever added; a node that
 * is detached stays where it is until it is attached to another object whose path goes through the
 * same vertex. So a reader is never led astray, and a node tells by its sequence number, odd while
 * nobody has it, whether what was read of it belongs together.
 *
 * Writers exclude each other by a lock with all signals blocked: a handler can't come in between. The
 * lock is the owner's thread id. If the owner is the thread itself (it was stopped within, and runs a
 * hook of qpatch now), attach fails instead of waiting for ever; if it does not exist (a process was
 * forked meanwhile), the lock is taken over: every step leaves the table whole. When qpatch stops all
 * threads to switch, none is in here.
 */

typedef unsigned long word;

enum { kMost = 4, kFan = 16, kLevels = 16 };
enum { kChunk = 64 << 10 };

struct node {
  struct node* next;
  word sequence; /* odd: free */
  word object, id;
  word room; /* bytes of data, a power of two */
  word unused;
  unsigned char data[]; /* aligned to 16 */
};

struct vertex {
  struct node* chain;
  word nodes;
  struct vertex* below[kFan];
};

__attribute__((visibility("hidden"))) struct vertex qpatch_shadow_root;
static unsigned shadow_owner; /* thread id, and kWaiters */
static unsigned char* free_at;
static word free_bytes;

static const unsigned kWaiters = 0x80000000u;

/* Numbers and constants of the kernel's interface for x86-64 (Linux arch/x86/entry/syscalls). */
enum {
  kMmap = 9,
  kSigprocmask = 14,
  kGetpid = 39,
  kGettid = 186,
  kFutex = 202,
  kTgkill = 234,
  kReadWrite = 3,
  kPrivateAnonymous = 0x22,
  kBlock = 0,
  kSetMask = 2,
  kWaitPrivate = 128,
  kWakePrivate = 129,
  kNoSuchThread = -3
};

static long call6(long number, word a, word b, word c, word d, word e, word f) {
  register word r10 __asm__("r10") = d;
  register word r8 __asm__("r8") = e;
  register word r9 __asm__("r9") = f;
  long result;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
}

static word shadow_hash_of(word object, word id) {
  word h = (object ^ (id * 0x9e3779b97f4a7c15ul)) * 0xbf58476d1ce4e5b9ul;
  h ^= h >> 29;
  h *= 0x94d049bb133111ebul;
  return h ^ (h >> 32);
}

static word shadow_slot_of(word hash, int level) {
  return (hash >> (4 * (level % kLevels))) % kFan;
}

/* --- reading --- */

static struct node* shadow_find(word object, word id) {
  const word hash = shadow_hash_of(object, id);
  struct vertex* v = &qpatch_shadow_root;
  for (int level = 0; v; ++level) {
    for (struct node* n = __atomic_load_n(&v->chain, __ATOMIC_ACQUIRE); n; n = n->next) {
      const word before = __atomic_load_n(&n->sequence, __ATOMIC_ACQUIRE);
      if (before % 2 == 0 && __atomic_load_n(&n->object, __ATOMIC_ACQUIRE) == object &&
          __atomic_load_n(&n->id, __ATOMIC_ACQUIRE) == id &&
          __atomic_load_n(&n->sequence, __ATOMIC_RELAXED) == before) {
        return n;
      }
    }
    v = __atomic_load_n(&v->below[shadow_slot_of(hash, level)], __ATOMIC_ACQUIRE);
  }
  return 0;
}

/* --- the lock --- */

/* False: this thread has it already. */
static int shadow_lock(word* mask) {
  const word all = ~0ul;
  const unsigned self = (unsigned)call6(kGettid, 0, 0, 0, 0, 0, 0);
  call6(kSigprocmask, kBlock, (word)&all, (word)mask, sizeof all, 0, 0);
  for (;;) {
    unsigned seen = 0;
    if (__atomic_compare_exchange_n(&shadow_owner, &seen, self, 0, __ATOMIC_ACQUIRE,
                                    __ATOMIC_RELAXED)) {
      return 1;
    }
    if ((seen & ~kWaiters) == self) {
      call6(kSigprocmask, kSetMask, (word)mask, 0, sizeof all, 0, 0);
      return 0;
    }
    const long pid = call6(kGetpid, 0, 0, 0, 0, 0, 0);
    if (call6(kTgkill, (word)pid, seen & ~kWaiters, 0, 0, 0, 0) == kNoSuchThread) {
      if (__atomic_compare_exchange_n(&shadow_owner, &seen, self | (seen & kWaiters), 0,
                                      __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
        return 1;
      }
      continue;
    }
    const unsigned waited = seen | kWaiters;
    if (seen == waited || __atomic_compare_exchange_n(&shadow_owner, &seen, waited, 0,
                                                      __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
      /* Bounded, since a thread that died with the lock wakes nobody. */
      const long until[2] = {0, 10000000};
      call6(kFutex, (word)&shadow_owner, kWaitPrivate, waited, (word)until, 0, 0);
    }
  }
}

static void shadow_unlock(const word* mask) {
  if ((__atomic_exchange_n(&shadow_owner, 0, __ATOMIC_RELEASE) & kWaiters) != 0) {
    call6(kFutex, (word)&shadow_owner, kWakePrivate, 0x7fffffff, 0, 0, 0);
  }
  call6(kSigprocmask, kSetMask, (word)mask, 0, sizeof *mask, 0, 0);
}

/* --- memory; under the lock --- */

/* Zeroed, aligned to 16; 0 if the kernel has none. */
static void* shadow_take(word size) {
  size = (size + 15) & ~15ul;
  if (size > free_bytes) {
    const word chunk = size > kChunk / 4 ? (size + 4095) & ~4095ul : kChunk;
    const long at = call6(kMmap, 0, chunk, kReadWrite, kPrivateAnonymous, ~0ul, 0);
    if (at < 0 && at > -4096) {
      return 0;
    }
    if (chunk != kChunk) {
      return (void*)at;
    }
    /* In these orders, for a child that is forked in between: never more is free than there is. */
    __atomic_store_n(&free_bytes, 0, __ATOMIC_RELEASE);
    __atomic_store_n(&free_at, (unsigned char*)at, __ATOMIC_RELEASE);
    __atomic_store_n(&free_bytes, chunk, __ATOMIC_RELEASE);
  }
  unsigned char* const out = free_at;
  __atomic_store_n(&free_bytes, free_bytes - size, __ATOMIC_RELEASE);
  __atomic_store_n(&free_at, out + size, __ATOMIC_RELEASE);
  return out;
}

static struct node* shadow_make_node(struct vertex* v, word room) {
  struct node* const n = shadow_take(sizeof(struct node) + room);
  if (n) {
    n->sequence = 1;
    n->room = room;
    n->next = v->chain;
    __atomic_store_n(&v->chain, n, __ATOMIC_RELEASE);
    v->nodes++;
  }
  return n;
}

/* A free node on the way of `hash` that has `room`, or a new one. */
static struct node* shadow_place(word hash, word room) {
  struct vertex* v = &qpatch_shadow_root;
  for (int level = 0;; ++level) {
    for (struct node* n = v->chain; n; n = n->next) {
      if (n->sequence % 2 != 0 && n->room >= room) {
        return n;
      }
    }
    struct vertex** const below = &v->below[shadow_slot_of(hash, level)];
    if (!*below) {
      if (v->nodes < kMost || level >= 2 * kLevels) {
        return shadow_make_node(v, room);
      }
      struct vertex* const made = shadow_take(sizeof(struct vertex));
      if (!made) {
        return 0;
      }
      __atomic_store_n(below, made, __ATOMIC_RELEASE);
    }
    v = *below;
  }
}

/* --- what patches call --- */

__attribute__((visibility("hidden"))) void* qpatch_shadow_get(const void* object, word id) {
  struct node* const n = shadow_find((word)object, id);
  return n ? n->data : 0;
}

__attribute__((visibility("hidden"))) void* qpatch_shadow_attach(const void* object, word id,
                                                                 word size) {
  struct node* n = shadow_find((word)object, id);
  if (n) {
    return n->room >= size ? n->data : 0;
  }
  word room = 16, mask;
  while (room < size) {
    room *= 2;
    if (room > 1ul << 40) {
      return 0;
    }
  }
  if (!shadow_lock(&mask)) {
    return 0;
  }
  n = shadow_find((word)object, id); /* somebody may have been faster */
  if (!n) {
    n = shadow_place(shadow_hash_of((word)object, id), room);
    if (n) {
      for (word i = 0; i < n->room; i += sizeof(word)) {
        *(volatile word*)(n->data + i) = 0;
      }
      __atomic_store_n(&n->object, (word)object, __ATOMIC_RELAXED);
      __atomic_store_n(&n->id, id, __ATOMIC_RELAXED);
      __atomic_store_n(&n->sequence, n->sequence + 1, __ATOMIC_RELEASE);
    }
  } else if (n->room < size) {
    n = 0;
  }
  shadow_unlock(&mask);
  return n ? n->data : 0;
}

__attribute__((visibility("hidden"))) int qpatch_shadow_detach(const void* object, word id) {
  word mask;
  if (!shadow_find((word)object, id) || !shadow_lock(&mask)) {
    return 0;
  }
  struct node* const n = shadow_find((word)object, id);
  if (n) {
    __atomic_store_n(&n->sequence, n->sequence + 1, __ATOMIC_RELEASE);
  }
  shadow_unlock(&mask);
  return n != 0;
}
