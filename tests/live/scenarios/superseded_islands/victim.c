// At -Os GCC packs functions, but for those that ask for an alignment: before and behind these is
// padding, the only one around.
#include <stdio.h>

__attribute__((noinline, aligned(64))) int aligned(void) {
  return 5;
}

__attribute__((noinline, aligned(32))) int zero(void) {
  return 0;
}

__attribute__((noinline)) int same(int x) {
  return x;
}

__attribute__((noinline)) int neighbour(int x) {
  return x * x;
}

__attribute__((noinline, aligned(64))) int behind(int x) {
  return x + 1;
}

void probe(const char* request) {
  (void)request;
  printf("%d %d %d %d", zero(), same(3), aligned(), neighbour(behind(2)));
}
