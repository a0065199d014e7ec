#include <stdio.h>
#include <stdlib.h>

int values[64];

__attribute__((noinline)) int weigh(int start) {
  static const int weights[] = {1, 2, 3, 4};
  int total = 0;
  for (int i = 0; i < 64; i++) {
    values[i] = start + i % 4;
  }
  for (int i = 0; i < 64; i++) {
    total += values[i] * weights[i % 4] + values[i] * 6;
  }
  return total;
}

void probe(const char* request) {
  printf("%d", weigh(atoi(request)));
}
