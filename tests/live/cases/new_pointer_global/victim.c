#include <stdio.h>

int existing = 7;
int row[4] = {20, 21, 22, 23};

__attribute__((noinline)) int twice(int x) {
  return 2 * x;
}

__attribute__((noinline)) void report(void) {
  printf("1");
}

void probe(const char* request) {
  (void)request;
  report();
}
