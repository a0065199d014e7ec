#include <stdio.h>
#include <stdlib.h>

int is_there(void);
static int calls;

__attribute__((noinline)) int value(int x) {
  return x + ++calls;
}

void probe(const char* request) {
  printf("%d %d", value(atoi(request)), is_there());
}
