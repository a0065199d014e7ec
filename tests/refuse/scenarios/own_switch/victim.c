// A coroutine stops in the middle of value(). The switch is that of a library of coroutines, by name and
// by what it does; and there is more memory than is looked through where nothing suggests coroutines.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void co_switch(void** from, void* to);
asm(".globl co_switch\n\t"
    ".type co_switch, @function\n"
    "co_switch:\n\t"
    "push %rbp; push %rbx; push %r12; push %r13; push %r14; push %r15\n\t"
    "mov %rsp, (%rdi)\n\t"
    "mov %rsi, %rsp\n\t"
    "pop %r15; pop %r14; pop %r13; pop %r12; pop %rbx; pop %rbp\n\t"
    "ret\n\t"
    ".size co_switch, . - co_switch");

enum { LARGE = 40 << 20 };
static void *outside, *inside;
static char stack[65536] __attribute__((aligned(16)));
static int result;
static char* memory;

__attribute__((noinline)) int value(int x) {
  co_switch(&inside, outside);
  return x + 1;
}

static void work(void) {
  result = value(1);
  co_switch(&inside, outside);
}

static void suspend(void) {
  void** top = (void**)(stack + sizeof stack);
  top[-2] = (void*)work;  // behind six registers
  inside = top - 8;
  co_switch(&outside, inside);
}

void start(void) {
  memory = malloc(LARGE);
  memset(memory, 1, LARGE);
  suspend();
}

void probe(const char* request) {
  if (strcmp(request, "suspend") == 0) {
    result = 0;
    suspend();
  } else if (strcmp(request, "resume") == 0) {
    co_switch(&outside, inside);
    memset(stack, 0, sizeof stack);
  }
  printf("%d", result);
}
