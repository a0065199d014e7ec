#include <stdio.h>
#include <stdlib.h>

// Brings small functions over the size of a jump, at -Os too.
volatile int bias;

__attribute__((noinline)) int rare(int x) {
  return x * 3 + bias;
}

__attribute__((noinline, cold)) int often(int x) {
  return x * 2 + bias;
}

void probe(const char* request) {
  int x = atoi(request);
  printf("%d", rare(x));
  printf(" %d", often(x));
}
