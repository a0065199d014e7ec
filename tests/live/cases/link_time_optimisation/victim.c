#include <stdio.h>
#include <stdlib.h>

int east(int x);
int west(int x);
extern int (*volatile east_rate)(int);
extern int (*volatile west_rate)(int);

/* The same name in each file: the linker's compiler tells them apart by numbers of its own. */
static __attribute__((noinline)) int rate(int x) {
  return x + 1;
}

void probe(const char* request) {
  int x = atoi(request);
  int own = rate(x);
  int far = east(x);
  int further = west(x);
  int by_pointer = east_rate(x);
  printf("%d %d %d %d %d", own, far, further, by_pointer, west_rate(x));
}
