// What a static program refers to: its data, thread-local variables at a fixed place, functions of
// libc, one of them chosen when the program starts (memcpy and strlen are indirect functions).
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int count = 5;
int level = 7;
static __thread int calls = 3;
__thread int numbered = 100;

__attribute__((noinline)) size_t length(const char* text) {
  return strlen(text) + 1;
}

__attribute__((noinline)) int state(int x) {
  return x + count++ + level + calls++ + numbered;
}

__attribute__((noinline)) int number(const char* text) {
  errno = 0;
  return atoi(text);
}

static int (*kept)(int) = state;

__attribute__((noinline)) int same(void) {
  return kept == state;
}

void probe(const char* request) {
  if (request[0] == 's') {
    printf("%d %d", state(1), same());
  } else if (request[0] == 'n') {
    printf("%d", number("17"));
  } else {
    printf("%zu", length(request));
  }
}
