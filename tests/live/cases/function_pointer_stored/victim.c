#include <stdio.h>
#include <stdlib.h>

__attribute__((noinline)) static int small(int x) {
  return x * 5;
}

__attribute__((noinline)) static int large(int x) {
  return x * 50;
}

static int (*volatile table[2])(int);

void start(void) {
  table[0] = small;
  table[1] = large;
}

void probe(const char* request) {
  printf("%d", table[atoi(request)](1));
}
