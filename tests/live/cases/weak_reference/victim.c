#include <stdio.h>
#include <stdlib.h>

int optional_hook(int x) __attribute__((weak));

__attribute__((noinline)) int call(int x) {
  return optional_hook ? optional_hook(x) : x;
}

void probe(const char* request) {
  printf("%d", call(atoi(request)));
}
