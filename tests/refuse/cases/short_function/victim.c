// Refusal: function-short
// hook() is a single `ret`, and GCC does not align functions at -Os: its neighbour would be overwritten.
#include <stdio.h>
#include <stdlib.h>

__attribute__((noinline)) void hook(void) {
  __asm__ volatile("");
}

__attribute__((noinline)) int neighbour(int x) {
  return x + 1;
}

void probe(const char* request) {
  hook();
  printf("%d", neighbour(atoi(request)));
}
