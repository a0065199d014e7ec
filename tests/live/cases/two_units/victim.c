#include <stdio.h>
#include <stdlib.h>

int outer(int x);

void probe(const char* request) {
  printf("%d", outer(atoi(request)));
}
