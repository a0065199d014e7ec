#include <stdio.h>
#include <stdlib.h>

__attribute__((noinline)) int character(volatile int at) {
  const char* text = "key\0val\0end";
  return text[at];
}

void probe(const char* request) {
  printf("%d", character(atoi(request)));
}
