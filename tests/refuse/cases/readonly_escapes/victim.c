// Refusal: readonly-escapes
#include <stdio.h>
#include <stdlib.h>

const int rates[] = {1, 2, 3, 4, 5, 6, 7, 8};
const int* current = rates;

__attribute__((noinline)) int rate(volatile int at) {
  return rates[at];
}

void probe(const char* request) {
  printf("%d %d", rate(atoi(request)), current[2]);
}
