#include <stdio.h>
#include <stdlib.h>

#include "surroundings.h"

// Brings value() over the size of a jump.
volatile int bias;

__attribute__((noinline)) int value(int x) {
  return x + 1 + bias;
}

void probe(const char* request) {
  if (*request >= '0' && *request <= '9') {
    printf("%d", value(atoi(request)));
  } else {
    printf("%s", enter(request));
  }
}
