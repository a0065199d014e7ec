#include <stdio.h>

__attribute__((noinline)) void describe(int calls) {
  printf("%d calls", calls);
}

void probe(const char* request) {
  (void)request;
  describe(3);
}
