// A static program of one thread, which has nothing of libc's for threads.
#include <stdio.h>
#include <stdlib.h>

__attribute__((noinline)) int count(int by) {
  return by;
}

void probe(const char* request) {
  printf("%d", count(atoi(request)));
}
