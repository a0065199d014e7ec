// Refusal: call-at-entry
// The call of value() is an indirect one behind a push, and returns into the first five bytes.
#include <stdio.h>
#include <ucontext.h>

static ucontext_t here;

static int one(void) {
  return 1;
}
int (*volatile callback)(void) = one;

__attribute__((noinline)) int value(int (*get)(void)) {
  return get() + 1;
}

void probe(const char* request) {
  (void)request;
  getcontext(&here);
  printf("%d", value(callback));
}
