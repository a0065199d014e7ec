#include <stdio.h>

__attribute__((noinline)) int next(void) {
  static int serial = 10;
  return serial++;
}

void probe(const char* request) {
  (void)request;
  printf("%d", next());
}
