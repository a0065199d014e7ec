#include <stdio.h>

// Brings small functions over the size of a jump.
volatile int bias;
int (*callback)(int);

__attribute__((noinline)) int work(int x) {
  return x + 1 + bias;
}

// `w`: works. `c`: calls what is registered.
void probe(const char* request) {
  printf("%d", request[0] == 'w' ? work(5) : callback ? callback(5) : -1);
}
