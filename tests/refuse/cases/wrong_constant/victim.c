#include <stdio.h>

__attribute__((noinline)) int greet(const char* name, int times) {
  printf("hello, %s", name);
  return times + 1;
}

void probe(const char* request) {
  printf("%d", greet(request, 1));
}
