// The answer's second number is 1 if the function still begins with endbr64 (f3 0f 1e fa).
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Brings small functions over the size of a jump, at -Os too.
volatile int bias;

__attribute__((noinline)) int multiply(int x) {
  return x * 2 + bias;
}

int (*volatile pointer)(int) = multiply;

void probe(const char* request) {
  static const unsigned char pad[] = {0xf3, 0x0f, 0x1e, 0xfa};
  int value = pointer(atoi(request));
  printf("%d %d", value, memcmp((const void*)pointer, pad, sizeof pad) == 0);
}
