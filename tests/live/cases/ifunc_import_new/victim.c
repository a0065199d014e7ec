#include <stdio.h>
#include <string.h>

__attribute__((noinline)) int find_c(const char* text) {
  (void)text;
  return -1;
}

void probe(const char* request) {
  printf("%d", find_c(request));
}
