#include <stdio.h>
#include <stdlib.h>

__attribute__((noinline)) long whole(int a, int b, int c, int d, int e, int f, int g, int h, int i,
                                     long j) {
  return a + b * 2 + c * 3 + d * 4 + e * 5 + f * 6 + g * 7 + h * 8 + i * 9 + j * 10;
}

__attribute__((noinline)) double real(double a, double b, double c, double d, double e, double f,
                                      double g, double h, double i, double j) {
  return a + b * 2 + c * 3 + d * 4 + e * 5 + f * 6 + g * 7 + h * 8 + i * 9 + j * 10;
}

void probe(const char* request) {
  int u = atoi(request);
  printf("%ld %.1f", whole(u, 2 * u, 3 * u, 4 * u, 5 * u, 6 * u, 7 * u, 8 * u, 9 * u, 10 * u),
         real(u, 2 * u, 3 * u, 4 * u, 5 * u, 6 * u, 7 * u, 8 * u, 9 * u, 10 * u));
}
