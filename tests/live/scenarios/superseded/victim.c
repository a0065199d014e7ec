#include <stdio.h>

// Brings small functions over the size of a jump, at -Os too.
volatile int bias;

__attribute__((noinline)) int first(int x) {
  return x + 10 + bias;
}

__attribute__((noinline)) int second(int x) {
  return x + 20 + bias;
}

void probe(const char* request) {
  printf("%d", request[0] == '1' ? first(1) : second(2));
}
