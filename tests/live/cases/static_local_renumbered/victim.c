// The compiler numbers the three variables aaa.N in an order of its own; after the change the numbers
// belong to other variables.
#include <stdio.h>

// Brings small functions over the size of a jump, at -Os too.
volatile int bias;

__attribute__((noinline)) int zeroth(void) {
  return bias;
}

__attribute__((noinline)) int first(void) {
  static int aaa = 100;
  aaa += 1;
  return aaa;
}

__attribute__((noinline)) int second(void) {
  static int aaa = 200;
  aaa += 7;
  return aaa;
}

void probe(const char* request) {
  printf("%d", request[0] == 'o' ? first() : request[0] == 't' ? second() : zeroth());
}
