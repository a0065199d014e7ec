#include <stdio.h>
#include <string.h>

int alpha(int step);
int beta(int step);

void probe(const char* request) {
  printf("%d", strcmp(request, "alpha") == 0 ? alpha(1) : beta(1));
}
