#include <stdio.h>

__attribute__((noinline)) int one(void) {
  return 1;
}

__attribute__((noinline)) int two(void) {
  return 2;
}

__attribute__((noinline)) int choose(int x) {
  int chosen = 0;
  chosen = one();
  return chosen + x;
}

void probe(const char* request) {
  (void)request;
  printf("%d %d %d", choose(1), one(), two());
}
