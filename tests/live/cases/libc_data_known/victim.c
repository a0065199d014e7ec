#include <stdio.h>

__attribute__((noinline)) int streams(void) {
  return fileno(stderr);
}

void probe(const char* request) {
  (void)request;
  printf("%d", streams());
}
