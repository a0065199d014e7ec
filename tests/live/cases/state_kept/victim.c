#include <stdio.h>

int total;

__attribute__((noinline)) int count(void) {
  static int counter;
  counter++;
  total += 10;
  return counter;
}

void probe(const char* request) {
  int n = count();
  (void)request;
  printf("%d %d", n, total);
}
