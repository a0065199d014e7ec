// Refusal: init-changed
// getenv keeps the compiler from running the constructor itself and dropping it.
#include <stdio.h>
#include <stdlib.h>

static int base;

__attribute__((constructor)) static void set_up(void) {
  base = 10 + (getenv("QPATCH_NO_SUCH") != NULL);
}

void probe(const char* request) {
  (void)request;
  printf("%d", base);
}
