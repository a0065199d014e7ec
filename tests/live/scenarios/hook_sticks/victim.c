// A page that nobody brings (userfaultfd): a system call that waits for it neither ends nor stops. And
// a context that can be suspended inside the function.
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

int waiter = -1, later;
char* page;
static ucontext_t outside, inside;
static char stack[65536];
static int result;

__attribute__((noinline)) int value(int x) {
  if (x == 1) {
    swapcontext(&inside, &outside);
  }
  return x + 1;
}

static void work(void) {
  result = value(1);
}

static void suspend(void) {
  result = 0;
  getcontext(&inside);
  inside.uc_stack.ss_sp = stack;
  inside.uc_stack.ss_size = sizeof stack;
  inside.uc_link = &outside;
  makecontext(&inside, work, 0);
  swapcontext(&outside, &inside);
}

static void let_go(int signal) {
  (void)signal;
  close(waiter);
}

static void* look_after(void* unused) {
  for (;;) {
    pause();
  }
  return unused;
}

void start(void) {
  struct uffdio_api api = {.api = UFFD_API};
  struct uffdio_register all = {.mode = UFFDIO_REGISTER_MODE_MISSING};
  pthread_t thread;
  pthread_create(&thread, NULL, look_after, NULL);
  signal(SIGUSR1, let_go);
  page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  all.range.start = (unsigned long)page;
  all.range.len = 4096;
  waiter = (int)syscall(SYS_userfaultfd, 0);
  if (ioctl(waiter, UFFDIO_API, &api) || ioctl(waiter, UFFDIO_REGISTER, &all) ||
      madvise(page + 4096, 4096, MADV_POPULATE_READ)) {
    waiter = -1;
  }
}

void probe(const char* request) {
  if (!strcmp(request, "can")) {
    printf("%s", waiter >= 0 ? "yes" : "no");
  } else if (!strcmp(request, "suspend")) {
    suspend();
    printf("%d", result);
  } else if (!strcmp(request, "resume")) {
    swapcontext(&outside, &inside);
    memset(&inside, 0, sizeof inside);
    memset(stack, 0, sizeof stack);
    printf("%d", result);
  } else if (!strcmp(request, "later")) {
    printf("%d", later);
  } else {
    printf("%d", value(5));
  }
}
