#include <stdio.h>

int north(int step);
int south(int step);

void probe(const char* request) {
  printf("%d", request[0] == 'n' ? north(1) : south(1));
}
