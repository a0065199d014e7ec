#include <stdio.h>
#include <stdlib.h>

int area(int side);

void probe(const char* request) {
  printf("%d", area(atoi(request)));
}
