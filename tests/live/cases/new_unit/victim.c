#include <stdio.h>
#include <stdlib.h>

__attribute__((noinline)) int temperature(int degrees) {
  return degrees;
}

void probe(const char* request) {
  printf("%d", temperature(atoi(request)));
}
