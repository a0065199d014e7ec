#include <stdio.h>
#include <stdlib.h>

long clamp(long x);

void probe(const char* request) {
  printf("%ld", clamp(atol(request)));
}
