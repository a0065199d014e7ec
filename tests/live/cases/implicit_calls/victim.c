#include <stdio.h>
#include <stdlib.h>

struct block {
  int values[4000];
};

struct block source, copy;

__attribute__((noinline)) void transfer(void) {
  copy.values[0] = 0;
}

void probe(const char* request) {
  source.values[3999] = atoi(request);
  copy.values[3999] = 0;
  transfer();
  printf("%d", copy.values[3999]);
}
