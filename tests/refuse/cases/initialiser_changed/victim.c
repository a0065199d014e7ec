// Refusal: initialiser-changed
#include <stdio.h>
#include <stdlib.h>

int limit = 100;

__attribute__((noinline)) int capped(int x) {
  return x > limit ? limit : x;
}

void probe(const char* request) {
  printf("%d", capped(atoi(request)));
}
