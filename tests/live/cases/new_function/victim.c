#include <stdio.h>
#include <stdlib.h>

__attribute__((noinline)) int answer(int n) {
  return n;
}

void probe(const char* request) {
  printf("%d", answer(atoi(request)));
}
