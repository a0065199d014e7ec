// Refusal: state-ambiguous
// Three variables called seen take the place of two; which is whose successor nobody can say.
#include <stdio.h>
#include <stdlib.h>

__attribute__((noinline)) int count(int which) {
  if (which == 1) {
    static int seen;
    seen += 1;
    return seen;
  } else {
    static int seen;
    seen += 100;
    return seen;
  }
}

void probe(const char* request) {
  printf("%d", count(atoi(request)));
}
