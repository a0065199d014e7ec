#include <stdio.h>
#include <stdlib.h>

#include "sizes.h"

int other(int x);

void probe(const char* request) {
  printf("%d", other(atoi(request)) * SMALL);
}
