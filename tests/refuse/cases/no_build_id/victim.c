// Refusal: no-build-id
#include <stdio.h>
#include <stdlib.h>

__attribute__((noinline)) int price(int pieces) {
  return pieces * 10 + 1;
}

void probe(const char* request) {
  printf("%d", price(atoi(request)));
}
