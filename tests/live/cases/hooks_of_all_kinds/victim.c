#include <stdio.h>
#include <stdlib.h>

__attribute__((noinline)) int unit(void) {
  static volatile int unit = 10;
  return unit;
}

__attribute__((noinline)) int price(int count) { return count * unit(); }

void probe(const char* request) { printf("%d", price(atoi(request))); }
