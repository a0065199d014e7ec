// Refusal: tls-unsupported
#include <stdio.h>

__attribute__((noinline)) int count(void) {
  return 0;
}

void probe(const char* request) {
  (void)request;
  printf("%d", count());
}
