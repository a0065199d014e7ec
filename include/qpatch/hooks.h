/* Hooks and shadow variables of qpatch: for the source of a patch, in C or C++.
 *
 * SPDX-License-Identifier: Apache-2.0
 *
 * A hook is a function of the patch that qpatch runs in the process, once, when the patch is applied
 * or reverted: to refuse, to bring data into the form that the new code expects, or to give a
 * variable the value that a changed initialiser would have given it.
 *
 *   #include <qpatch/hooks.h>
 *
 *   static int raise_limit(struct qpatch_hook_context* context) {
 *     limit = 100;
 *     return 0;
 *   }
 *   QPATCH_PRE_APPLY(raise_limit, QPATCH_STOPPED);
 *
 * `qpatch build` finds this header by itself. For other builds of the same source it has to be in the
 * include path; there the macros leave a few bytes behind and nothing runs.
 *
 * When. Hooks of one kind run in the order of their lines, those of several files by file name.
 *   QPATCH_PRE_APPLY    the image is mapped, no function is replaced yet. Not 0: the patch is refused.
 *   QPATCH_POST_APPLY   all functions are replaced. Not 0: reported; the patch stays applied.
 *   QPATCH_PRE_REVERT   before the old functions come back. Not 0: the revert is refused.
 *   QPATCH_POST_REVERT  the old functions are back. Not 0: reported; the patch stays reverted.
 * When a patch takes the place of an earlier one, its own hooks run, and no hook of the earlier one.
 * What a pre-apply hook did is not undone if the patch is not applied after all (another hook
 * refuses, a function stays busy): let it check, or do what may be done twice. `qpatch recover` runs
 * no hook.
 *
 * The other threads meanwhile:
 *   QPATCH_STOPPED  stand still, from the last look at the stacks until the functions are replaced.
 *                   They may hold any lock. A hook that waits for one waits in vain, until its
 *                   deadline (--hook-timeout, 1s). So: no malloc, no stdio, no mutex.
 *   QPATCH_RUNNING  run on. So does nothing else on the thread that the hook has borrowed, which may
 *                   have been stopped anywhere, also in malloc: such a hook may call what a signal
 *                   handler may call (signal-safety(7)). Deadline 10s.
 *
 * The thread has a stack of its own here (256 KiB), its own thread-local variables and errno (which
 * is put back), all signals blocked, and the default floating-point modes. A hook that crashes, or
 * overruns its deadline, is ended where it is, the process lives on, and the patch is refused; what
 * the hook had locked stays locked. A hook can't exit, exec, fork or make a thread: that ends it as
 * a crash does. So does a sleep with an end (nanosleep, poll, a lock with a timeout) if all threads
 * of the program are in such a sleep themselves, which it would disturb. There are no hooks in a
 * process with a seccomp filter.
 */
#ifndef QPATCH_HOOKS_H
#define QPATCH_HOOKS_H

#ifdef __cplusplus
extern "C" {
#endif

struct qpatch_hook_context {
  unsigned int version; /* of this structure: 1 */
  int when;             /* QPATCH_WHEN_… */
  int others;           /* QPATCH_STOPPED or QPATCH_RUNNING */
  int saved_errno;      /* of qpatch */
  int* errno_at;        /* of qpatch */
  char patch[24];       /* the patch's id */
  /* A hook may leave a text here, which is reported with its value. It ends with a zero byte. */
  char message[464];
};

#define QPATCH_WHEN_PRE_APPLY 1
#define QPATCH_WHEN_POST_APPLY 2
#define QPATCH_WHEN_PRE_REVERT 3
#define QPATCH_WHEN_POST_REVERT 4

#define QPATCH_RUNNING 1
#define QPATCH_STOPPED 2

/* int FUNCTION(struct qpatch_hook_context*), defined before; in C++ a plain name. */
#define QPATCH_PRE_APPLY(function, others) \
  QPATCH_HOOK_(pre_apply, QPATCH_WHEN_PRE_APPLY, function, others)
#define QPATCH_POST_APPLY(function, others) \
  QPATCH_HOOK_(post_apply, QPATCH_WHEN_POST_APPLY, function, others)
#define QPATCH_PRE_REVERT(function, others) \
  QPATCH_HOOK_(pre_revert, QPATCH_WHEN_PRE_REVERT, function, others)
#define QPATCH_POST_REVERT(function, others) \
  QPATCH_HOOK_(post_revert, QPATCH_WHEN_POST_REVERT, function, others)

/* What qpatch reads, in the section .qpatch.hooks. */
struct qpatch_hook_record_ {
  int (*run)(struct qpatch_hook_context*);
  unsigned short version; /* 1 */
  unsigned char when, others;
  unsigned int line;
};

/* By another name, so that <errno.h> may declare it as it likes; 0 in a program that has no errno. */
extern int* qpatch_errno_location_(void) __asm__("__errno_location") __attribute__((weak));
static int* (*const volatile qpatch_errno_at_)(void)
    __attribute__((unused)) = qpatch_errno_location_;

#define QPATCH_HOOK_(kind, when_, function, others_)                                             \
  static int qpatch_##kind##_##function(struct qpatch_hook_context* context) {                   \
    int* (*const where)(void) = qpatch_errno_at_;                                                \
    int value;                                                                                   \
    if (where) {                                                                                 \
      int* const at = where();                                                                   \
      context->saved_errno = *at;                                                                \
      *(int* volatile*)&context->errno_at = at;                                                  \
    }                                                                                            \
    value = function(context);                                                                   \
    if (where) {                                                                                 \
      *context->errno_at = context->saved_errno;                                                 \
      *(int* volatile*)&context->errno_at = 0;                                                   \
    }                                                                                            \
    return value;                                                                                \
  }                                                                                              \
  static const struct qpatch_hook_record_ qpatch_record_##kind##_##function                      \
      __attribute__((used, section(".qpatch.hooks"), aligned(8))) = {qpatch_##kind##_##function, \
                                                                     1, when_, others_, __LINE__}

/* Shadow variables: fields that objects of the program gain after they were made. Of one object and one
 * number (which the patch chooses) there is one, 16-byte aligned.
 *
 *   attach  finds it or makes it, zeroed. 0: no memory, or it is there and smaller than `size`, or (in
 *           a QPATCH_RUNNING hook only) its thread was stopped within attach or detach.
 *   get     finds it; 0 if there is none.
 *   detach  ends it; 0 if there is none. Its memory serves the next one: whoever still uses a pointer
 *           to it has to be kept out, as with free(). An object that is freed does not take its shadow
 *           variables along: detach them where the new code frees it, or the next object at that
 *           address inherits them.
 *
 * All three may be called from any thread, from signal handlers and from hooks. get takes no lock.
 * They use no memory of the program's own: theirs comes from the kernel, and is kept. The variables
 * are the patch's: another patch has others, a child of fork() has copies; in a patch for several
 * targets each target has its own. A patch that calls these functions stays mapped after its revert,
 * and finds its variables again when it is applied once more; what they say about objects that came
 * and went meanwhile is for its hooks to set right.
 *
 * An ordinary build of the same source compiles src/build/runtime/shadow.c of qpatch (installed as
 * share/qpatch/shadow.c) into the program.
 */
__attribute__((visibility("hidden"))) void* qpatch_shadow_get(const void* object,
                                                              unsigned long number);
__attribute__((visibility("hidden"))) void* qpatch_shadow_attach(const void* object,
                                                                 unsigned long number,
                                                                 unsigned long size);
__attribute__((visibility("hidden"))) int qpatch_shadow_detach(const void* object,
                                                               unsigned long number);

#ifdef __cplusplus
}
#endif

#endif
