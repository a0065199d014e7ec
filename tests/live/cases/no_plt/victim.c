#include <stdio.h>
#include <stdlib.h>

__attribute__((noinline)) void show(const char* text) {
  long value = strtol(text, NULL, 10);
  printf("%ld", value);
}

void probe(const char* request) {
  show(request);
}
