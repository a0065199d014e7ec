// A coroutine stops in the middle of value(); no register and no thread's stack shows it.
#include <stdio.h>
#include <string.h>
#include <ucontext.h>

static ucontext_t outside, inside;
static char stack[65536];
static int result;

__attribute__((noinline)) int value(int x) {
  swapcontext(&inside, &outside);
  return x + 1;
}

static void work(void) {
  result = value(1);
}

static void suspend(void) {
  getcontext(&inside);
  inside.uc_stack.ss_sp = stack;
  inside.uc_stack.ss_size = sizeof stack;
  inside.uc_link = &outside;
  makecontext(&inside, work, 0);
  swapcontext(&outside, &inside);
}

void start(void) {
  suspend();
}

void probe(const char* request) {
  if (strcmp(request, "suspend") == 0) {
    result = 0;
    suspend();
  } else if (strcmp(request, "resume") == 0) {
    swapcontext(&outside, &inside);
    memset(&inside, 0, sizeof inside);  // as a program that frees its coroutines
    memset(stack, 0, sizeof stack);
  }
  printf("%d", result);
}
