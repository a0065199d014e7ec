// Refusal: import-ifunc
// libc keeps the choice for strlen or memcpy in a slot of its own, but it never calls strstr.
#include <stdio.h>
#include <string.h>

volatile int bias;

__attribute__((noinline)) int contains(const char* text) {
  return text[0] == 0 || bias;
}

void probe(const char* request) {
  printf("%d", contains(request));
}
