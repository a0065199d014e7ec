// The unlikely branch goes to .text.unlikely (checked.cold) with GCC, and comes back from there.
#include <stdio.h>
#include <stdlib.h>

int failures = 9;

__attribute__((cold, noinline)) void complain(int number) {
  printf("cold %d ", number);
}

__attribute__((noinline)) int checked(int value) {
  if (__builtin_expect(value < 0, 0)) {
    failures++;
    complain(failures);
    value = -value;
  } else {
    printf("ok ");
  }
  return value;
}

void probe(const char* request) {
  printf("%d", checked(atoi(request)));
}
