// Refusal: label-address
#include <stdio.h>

__attribute__((noinline)) int interpret(const char* program) {
  static void* volatile labels[] = {&&one, &&ten, &&stop};
  int total = 0;
  goto* labels[*program == 'a' ? 0 : *program == 'b' ? 1 : 2];
one:
  total += 1;
  program++;
  goto* labels[*program == 'a' ? 0 : *program == 'b' ? 1 : 2];
ten:
  total += 10;
  program++;
  goto* labels[*program == 'a' ? 0 : *program == 'b' ? 1 : 2];
stop:
  return total;
}

void probe(const char* request) {
  printf("%d", interpret(request));
}
