#include <stdio.h>
#include <stdlib.h>

static int calls = 100;

__attribute__((noinline)) static int counted(int x) {
  calls++;
  return x + calls;
}

__attribute__((noinline)) int answer(int x) {
  return counted(x);
}

void probe(const char* request) {
  printf("%d", answer(atoi(request)));
}
