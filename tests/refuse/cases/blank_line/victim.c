#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

__attribute__((noinline)) int half(int x) {
  assert(x % 2 == 0);
  return x / 2;
}

void probe(const char* request) {
  printf("%d", half(atoi(request)));
}
