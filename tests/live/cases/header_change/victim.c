#include <stdio.h>
#include <stdlib.h>

int shop(int amount);
int bank(int amount);

void probe(const char* request) {
  printf("%d %d", shop(atoi(request)), bank(atoi(request)));
}
