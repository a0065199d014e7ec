#include <stdio.h>
#include <stdlib.h>

enum state { IDLE, RUNNING, DONE };

static enum state current = IDLE;

__attribute__((noinline)) void set(int go) {
  current = go ? RUNNING : DONE;
}

void probe(const char* request) {
  set(atoi(request));
  printf("%d", (int)current);
}
