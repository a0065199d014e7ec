#include <stdio.h>

__attribute__((noinline)) int interpret(const char* program) {
  static const void* const labels[] = {&&one, &&ten, &&stop};
  int total = 0;
#define NEXT goto* labels[*program == 'a' ? 0 : *program == 'b' ? 1 : 2]
  NEXT;
one:
  total += 1;
  program++;
  NEXT;
ten:
  total += 10;
  program++;
  NEXT;
stop:
  return total;
}

void probe(const char* request) {
  printf("%d", interpret(request));
}
