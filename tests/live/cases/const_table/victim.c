// Two readers, of which the diff touches neither: both have to be in the patch.
#include <stdio.h>
#include <stdlib.h>

static const int table[] = {
    10,
    20,
    30,
    40, 50, 60, 70, 80, 90, 100, 110, 120,
};

__attribute__((noinline)) int one(volatile int at) {
  return table[at];
}

__attribute__((noinline)) int ten(volatile int at) {
  return table[at] * 10;
}

void probe(const char* request) {
  printf("%d %d", one(atoi(request)), ten(atoi(request)));
}
