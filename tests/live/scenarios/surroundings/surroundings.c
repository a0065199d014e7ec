// What a process can do to itself that is in the way of one that looks at it. Some of it can't be
// taken back: each is tried by a process of its own.
#define _GNU_SOURCE
#include "surroundings.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/io_uring.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

void probe(const char* request);

static int limit(int what, rlim_t to) {
  const struct rlimit both = {to, to};
  return setrlimit(what, &both);
}

static int filter_all_but_few(unsigned action, unsigned flags) {
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_read, 6, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_write, 5, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigreturn, 4, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_restart_syscall, 3, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 2, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_futex, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, action),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const struct sock_fprog program = {sizeof code / sizeof *code, code};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
    return -1;
  }
  return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program) >= 0 ? 0 : -1;
}

static int seccomp_kill(void) {
  return filter_all_but_few(SECCOMP_RET_KILL_PROCESS, 0);
}
static int seccomp_errno(void) {
  return filter_all_but_few(SECCOMP_RET_ERRNO | EPERM, 0);
}
static int seccomp_trap(void) {
  return filter_all_but_few(SECCOMP_RET_TRAP, 0);
}
static int seccomp_trace(void) {
  return filter_all_but_few(SECCOMP_RET_TRACE, 0);
}
// Nobody reads the listener: a call that the filter takes would never end.
static int seccomp_notify(void) {
  return filter_all_but_few(SECCOMP_RET_USER_NOTIF, SECCOMP_FILTER_FLAG_NEW_LISTENER);
}
static int seccomp_strict(void) {
  return prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
}

static char selector = SYSCALL_DISPATCH_FILTER_ALLOW;

// Only calls from one page of the program itself, that has none, are not looked at.
static int user_dispatch(void) {
  return prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, (uintptr_t)&enter & -4096ul, 4096,
               &selector);
}

static int no_new_privileges(void) {
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}
static int no_exec_gain(void) {
  return prctl(65 /* PR_SET_MDWE */, 1 /* PR_MDWE_REFUSE_EXEC_GAIN */, 0, 0, 0);
}
static int not_dumpable(void) {
  return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}
static int another_user(void) {
  return setresgid(65534, 65534, 65534) != 0 ? -1 : setresuid(65534, 65534, 65534);
}

static int no_address_space(void) {
  return limit(RLIMIT_AS, 4096);
}
static int no_descriptors(void) {
  return limit(RLIMIT_NOFILE, 3);
}
static int no_file_size(void) {
  return limit(RLIMIT_FSIZE, 0);
}
static int no_locked_memory(void) {
  return limit(RLIMIT_MEMLOCK, 0) != 0 ? -1 : mlockall(MCL_CURRENT);
}
static int all_locked(void) {
  return mlockall(MCL_CURRENT | MCL_FUTURE);
}

static int user_namespace(void) {
  return unshare(CLONE_NEWUSER);
}
static int other_mounts(void) {
  if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) {
    return -1;
  }
  return mount("none", "/tmp", "tmpfs", MS_RDONLY, NULL);
}
static int other_root(void) {
  return chroot("/sys") != 0 ? -1 : chdir("/");
}

static void serve(void) {
  char line[256];
  while (fgets(line, sizeof line, stdin)) {
    line[strcspn(line, "\n")] = '\0';
    probe(line);
    putchar('\n');
    fflush(stdout);
  }
}

static void* serve_alone(void* unused) {
  (void)unused;
  while (syscall(SYS_tgkill, getpid(), getpid(), 0) == 0) {
    sched_yield();
    char state = 0;
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", getpid());
    FILE* stat = fopen(path, "r");
    if (stat && fscanf(stat, "%*d (%*[^)]) %c", &state) == 1 && state == 'Z') {
      fclose(stat);
      break;
    }
    if (stat) {
      fclose(stat);
    }
  }
  puts("in");
  fflush(stdout);
  serve();
  _exit(0);
}

static int dead_leader(void) {
  pthread_t thread;
  errno = pthread_create(&thread, NULL, serve_alone, NULL);
  if (errno != 0) {
    return -1;
  }
  syscall(SYS_exit, 0);
  return -1;
}

static void* make_threads(void* unused);
static void* end_at_once(void* unused) {
  return unused;
}
static void* make_threads(void* unused) {
  for (;;) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, end_at_once, NULL) == 0) {
      pthread_join(thread, NULL);
    }
  }
  return unused;
}

static int arrived[2];

// A new thread changes its signal mask before it runs; who comes from here has done so.
static void* arrive(void* run) {
  (void)!write(arrived[1], "x", 1);
  return ((void* (*)(void*))run)(NULL);
}

static int start_with(const pthread_attr_t* how, void* (*run)(void*)) {
  pthread_t thread;
  char c;
  if (arrived[1] == 0 && pipe(arrived) != 0) {
    return -1;
  }
  errno = pthread_create(&thread, how, arrive, (void*)run);
  return errno == 0 && read(arrived[0], &c, 1) == 1 ? 0 : -1;
}
static int start(void* (*run)(void*)) {
  return start_with(NULL, run);
}

static int thread_storm(void) {
  return start(make_threads) != 0 ? -1 : start(make_threads);
}

static void* spin(void* unused) {
  const struct sched_param parameter = {.sched_priority = 50};
  pthread_setschedparam(pthread_self(), SCHED_FIFO, &parameter);
  for (;;) {
    __asm__ volatile("pause");
  }
  return unused;
}

static int real_time(void) {
  return start(spin);
}

// A stack in the middle of other memory, as coroutines of foreign runtimes have them: `size` bytes,
// full almost to the end.
static char island[1 << 16];

static void* stand_on_island(void* size) {
  char* top = island + (uintptr_t)size;
  __asm__ volatile(
      "mov %0, %%rsp\n"
      "1: mov $34, %%eax\n"  // pause
      "syscall\n"
      "jmp 1b\n" ::"r"(top)
      : "memory", "rax", "rcx", "r11");
  return NULL;
}

static void* stand_on_narrow_island(void* unused) {
  (void)unused;
  return stand_on_island((void*)64);
}
static void* stand_on_wide_island(void* unused) {
  (void)unused;
  return stand_on_island((void*)(sizeof island - 64));
}

static int foreign_stacks(void) {
  return start(stand_on_narrow_island) != 0 ? -1 : start(stand_on_wide_island);
}

static void* rest(void* unused) {
  for (;;) {
    pause();
  }
  return unused;
}

static int huge_stack(void) {
  pthread_attr_t how;
  pthread_attr_init(&how);
  errno = pthread_attr_setstacksize(&how, 4ul << 30);
  return errno == 0 ? start_with(&how, rest) : -1;
}

static int held[2];

static void* vfork_and_wait(void* unused) {
  if (vfork() == 0) {
    char c;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)!write(arrived[1], "x", 1);
    (void)!read(held[0], &c, 1);
    _exit(0);
  }
  return unused;
}

static int vfork_parent(void) {
  char c;
  return pipe(held) != 0 || start(vfork_and_wait) != 0 || read(arrived[0], &c, 1) != 1 ? -1 : 0;
}
static int vfork_end(void) {
  return write(held[1], "x", 1) == 1 ? 0 : -1;
}

// The child has the parent's memory, and answers in its place.
static int vfork_alone(void) {
  if (vfork() == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    puts("in");
    fflush(stdout);
    serve();
    _exit(0);
  }
  return 0;
}

static int pid_namespace(void) {
  if (unshare(CLONE_NEWPID) != 0) {
    return -1;
  }
  if (fork() == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    return 0;
  }
  for (;;) {
    pause();
  }
}

// A kernel thread of this process polls the ring.
static int uring_thread(void) {
  struct io_uring_params how;
  memset(&how, 0, sizeof how);
  how.flags = IORING_SETUP_SQPOLL;
  how.sq_thread_idle = 1;
  return syscall(SYS_io_uring_setup, 4, &how) >= 0 ? 0 : -1;
}

static const struct {
  const char* name;
  int (*enter)(void);
} all[] = {
    {"seccomp_kill", seccomp_kill},
    {"seccomp_errno", seccomp_errno},
    {"seccomp_trap", seccomp_trap},
    {"seccomp_trace", seccomp_trace},
    {"seccomp_notify", seccomp_notify},
    {"seccomp_strict", seccomp_strict},
    {"user_dispatch", user_dispatch},
    {"no_new_privileges", no_new_privileges},
    {"no_exec_gain", no_exec_gain},
    {"not_dumpable", not_dumpable},
    {"another_user", another_user},
    {"no_address_space", no_address_space},
    {"no_descriptors", no_descriptors},
    {"no_file_size", no_file_size},
    {"no_locked_memory", no_locked_memory},
    {"all_locked", all_locked},
    {"user_namespace", user_namespace},
    {"other_mounts", other_mounts},
    {"other_root", other_root},
    {"dead_leader", dead_leader},
    {"thread_storm", thread_storm},
    {"real_time", real_time},
    {"foreign_stacks", foreign_stacks},
    {"huge_stack", huge_stack},
    {"vfork_parent", vfork_parent},
    {"vfork_end", vfork_end},
    {"vfork_alone", vfork_alone},
    {"pid_namespace", pid_namespace},
    {"uring_thread", uring_thread},
};

const char* enter(const char* name) {
  for (size_t i = 0; i < sizeof all / sizeof *all; ++i) {
    if (strcmp(name, all[i].name) == 0) {
      return all[i].enter() == 0 ? "in" : strerror(errno);
    }
  }
  return "unknown";
}
