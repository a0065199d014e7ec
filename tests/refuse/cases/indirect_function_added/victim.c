// Refusal: ifunc-unsupported
#include <stdio.h>

int plain(void) {
  return 1;
}

__attribute__((noinline)) int value(void) {
  return plain();
}

void probe(const char* request) {
  (void)request;
  printf("%d", value());
}
