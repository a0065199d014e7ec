#include <stdio.h>
#include <stdlib.h>

#include "shelf.h"

static int sold = 7;
static const char* const kinds[] = {"pen", "book", "lamp"};

__attribute__((noinline)) static const char* kind_of(int pieces) {
  return kinds[pieces % 3 + (pieces == 3)];
}

__attribute__((noinline)) static int price(int pieces) {
  sold += 10;
  return pieces * 10 + sold + (shelf(pieces) & 0);
}

void probe(const char* request) {
  int pieces = atoi(request);
  printf("%s %d", kind_of(pieces), price(pieces));
}
