#include <stdio.h>
#include <stdlib.h>

// Brings small functions over the size of a jump, at -Os too.
volatile int bias;

__attribute__((noinline)) int last(int x) {
  return x * 2 + bias;
}

__attribute__((noinline)) int jumping(int x, int y) {
  return last(x + y + bias);
}

void probe(const char* request) {
  printf("%d", jumping(atoi(request), 0) + 1);
}
