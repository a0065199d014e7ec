// Refusal: function-missing
// The linker threw unused_api away.
#include <stdio.h>
#include <stdlib.h>

int unused_api(int x) {
  return x + 1;
}

void probe(const char* request) {
  printf("%d", atoi(request));
}
