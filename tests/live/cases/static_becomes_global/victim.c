#include <stdio.h>
#include <stdlib.h>

static int sum = 10;

__attribute__((noinline)) static int add(int x) {
  sum += x;
  return sum;
}

void probe(const char* request) {
  printf("%d", add(atoi(request)));
}
