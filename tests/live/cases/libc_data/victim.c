// Without -fPIC the compiler counts on a copy relocation, which can't be made any more: see
// tests/refuse/cases/data_import_direct.
#include <stdio.h>

// Brings small functions over the size of a jump, at -Os too.
volatile int bias;

__attribute__((noinline)) int number_of_stderr(void) {
  return bias;
}

__attribute__((noinline)) int environment_known(void) {
  return bias;
}

void probe(const char* request) {
  (void)request;
  printf("%d %d", number_of_stderr(), environment_known());
}
