#include <stdio.h>
#include <stdlib.h>

__attribute__((noinline)) int square(volatile int at) {
  int squares[] = {1, 4, 9, 16, 25, 36, 49, 64, 81, 100, 121, 144};
  return squares[at];
}

void probe(const char* request) {
  printf("%d", square(atoi(request)));
}
