// Of a static program.
#include <stdio.h>
#include <stdlib.h>

__attribute__((noinline)) int value(int x) {
  return x;
}

void probe(const char* request) {
  printf("%d", value(atoi(request)));
}
