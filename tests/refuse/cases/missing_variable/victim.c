// Refusal: symbol-missing
// The linker threw steps away with the only function that used it.
#include <stdio.h>
#include <stdlib.h>

int steps = 3;

int unused_api(int x) {
  steps += x;
  return steps;
}

__attribute__((noinline)) int used(int x) {
  return x;
}

void probe(const char* request) {
  printf("%d", used(atoi(request)));
}
