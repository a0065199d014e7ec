// Refusal: code-differs
// The running program was built from another version of this file (drift.patch).
#include <stdio.h>
#include <stdlib.h>

__attribute__((noinline)) int price(int pieces) {
  int each = 10;
  each += pieces;
  return pieces * each + 1;
}

void probe(const char* request) {
  printf("%d", price(atoi(request)));
}
