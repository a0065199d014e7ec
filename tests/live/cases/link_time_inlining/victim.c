#include <stdio.h>
#include <stdlib.h>

int scaled(int x);
const char* kind(int x);

__attribute__((noinline)) static int twice(int x) {
  return scaled(x) + scaled(x + 1);
}

__attribute__((noinline)) void probe(const char* request) {
  int x = atoi(request);
  printf("%d %s", twice(x), kind(x));
}
