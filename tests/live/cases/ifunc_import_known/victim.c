#include <stdio.h>
#include <string.h>

__attribute__((noinline)) int length(const char* text) {
  return (int)strlen(text);
}

void probe(const char* request) {
  printf("%d", length(request));
}
