#include <stdio.h>
#include <stdlib.h>

__attribute__((noinline)) int code_of(volatile int kind) {
  switch (kind) {
    case 0:
      return 5;
    case 1:
      return -2;
    case 2:
      return 31;
    case 3:
      return 9;
    case 4:
      return -8;
    case 5:
      return 61;
    case 6:
      return 17;
    case 7:
      return 3;
  }
  return 0;
}

void probe(const char* request) {
  printf("%d", code_of(atoi(request)));
}
