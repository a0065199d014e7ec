#include <stdio.h>
#include <stdlib.h>

// Brings value() over the size of a jump, at -Os too.
volatile int bias;

__attribute__((noinline)) int value(int x) {
  return x + 1 + bias;
}

void probe(const char* request) {
  printf("%d", value(atoi(request)));
}
