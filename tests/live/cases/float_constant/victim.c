#include <stdio.h>
#include <stdlib.h>

__attribute__((noinline)) double scaled(double value) {
  return value * 2.5;
}

__attribute__((noinline)) float divided(float value) {
  return value * 0.375f;
}

void probe(const char* request) {
  printf("%.2f %.2f", scaled(atof(request)), (double)divided((float)atof(request)));
}
