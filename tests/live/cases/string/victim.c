#include <stdio.h>

__attribute__((noinline)) void greet(const char* name) {
  printf("hello, %s", name);
}

void probe(const char* request) {
  greet(request);
}
