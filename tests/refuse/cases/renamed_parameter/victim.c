#include <stdio.h>
#include <stdlib.h>

int twice(int x);

__attribute__((noinline)) int twice(int x) {
  return x * 2;
}

void probe(const char* request) {
  printf("%d", twice(atoi(request)));
}
