// Refusal: no-function-sections
#include <stdio.h>
#include <stdlib.h>

long twice(long x);

void probe(const char* request) {
  printf("%ld", twice(atol(request)));
}
