#include <stdio.h>
#include <stdlib.h>

static inline __attribute__((always_inline)) int helper(int x) {
  return x + 1;
}

__attribute__((noinline)) int one(int x) {
  return helper(x);
}

__attribute__((noinline)) int two(int x) {
  return helper(x + 1);
}

void probe(const char* request) {
  int x = atoi(request);
  printf("%d %d", one(x), two(x));
}
