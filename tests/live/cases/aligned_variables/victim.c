#include <stdint.h>
#include <stdio.h>

__attribute__((noinline)) void measure(int* a, int* b, int* c) {
  *a = *b = *c = 0;
}

void probe(const char* request) {
  int a, b, c;
  (void)request;
  measure(&a, &b, &c);
  printf("%d %d %d", a, b, c);
}
