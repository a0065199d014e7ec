#include <stdio.h>
#include <stdlib.h>

__attribute__((noinline)) int factorial(int n) {
  return n < 2 ? 1 : n * factorial(n - 1);
}

int is_odd(int n);

__attribute__((noinline)) int is_even(int n) {
  return n == 0 ? 1 : is_odd(n - 1);
}

__attribute__((noinline)) int is_odd(int n) {
  return n == 0 ? 0 : is_even(n - 1);
}

void probe(const char* request) {
  int n = atoi(request);
  printf("%d %d", factorial(n), is_even(n));
}
