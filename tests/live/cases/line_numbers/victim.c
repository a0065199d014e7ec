// Hunks above and between functions with assertions; only first() and last() are repaired.
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

// Brings small functions over the size of a jump, at -Os too.
volatile int bias;

__attribute__((noinline)) int first(int x) {
  return x + 1 + bias;
}

__attribute__((noinline)) int middle(int x) {
  assert(x > -1000);
  if (x < -500) {
    printf("line %d of %s", __LINE__, __FILE__);
  }
  assert(x < 1000);
  return x;
}

__attribute__((noinline)) int where(int x) {
  assert(x != 77);
  return
      // A number that the compiler puts into the code.
      __LINE__ + 0 * x;
}

__attribute__((noinline)) int last(int x) {
  assert(x != 78);
  return x * 5;
}

void probe(const char* request) {
  int x = middle(atoi(request));
  printf("%d %d line %d", first(x), last(x), where(x));
}
