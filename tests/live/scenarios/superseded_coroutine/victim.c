#include <stdio.h>
#include <string.h>
#include <ucontext.h>

static ucontext_t outside, inside;
static char stack[65536];
static int result;

__attribute__((noinline)) int work(int x) {
  swapcontext(&inside, &outside);
  return x + 10;
}

static void run(void) {
  result = work(1);
}

// `suspend`: a coroutine goes into work(). `resume`: it comes out.
void probe(const char* request) {
  if (strcmp(request, "suspend") == 0) {
    result = 0;
    getcontext(&inside);
    inside.uc_stack.ss_sp = stack;
    inside.uc_stack.ss_size = sizeof stack;
    inside.uc_link = &outside;
    makecontext(&inside, run, 0);
    swapcontext(&outside, &inside);
  } else {
    swapcontext(&outside, &inside);
    memset(&inside, 0, sizeof inside);  // as a program that frees its coroutines
    memset(stack, 0, sizeof stack);
  }
  printf("%d", result);
}
