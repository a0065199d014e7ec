#include <stdio.h>
#include <stdlib.h>

__attribute__((noinline)) long double circle(long double radius) {
  return radius * 3.14159265358979323846L;
}

void probe(const char* request) {
  printf("%.3Lf", circle(atof(request)));
}
