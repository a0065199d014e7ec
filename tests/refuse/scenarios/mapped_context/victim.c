// A coroutine in memory of its own from mmap(), without a guard: the kernel joins it with its
// neighbour, in which the main thread's control block lies.
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

struct coroutine {
  char stack[256 * 1024];
  ucontext_t inside, outside;
};
static struct coroutine* it;
static int result;

__attribute__((noinline)) int value(int x) {
  swapcontext(&it->inside, &it->outside);
  return x + 1;
}

static void work(void) {
  result = value(1);
}

void start(void) {
  it = mmap(0, sizeof *it, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  getcontext(&it->inside);
  it->inside.uc_stack.ss_sp = it->stack;
  it->inside.uc_stack.ss_size = sizeof it->stack;
  it->inside.uc_link = &it->outside;
  makecontext(&it->inside, work, 0);
  swapcontext(&it->outside, &it->inside);
}

void probe(const char* request) {
  if (strcmp(request, "resume") == 0) {
    swapcontext(&it->outside, &it->inside);
    munmap(it, sizeof *it);
  }
  printf("%d", result);
}
