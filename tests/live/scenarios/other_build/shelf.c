#include "shelf.h"

static int places[64];

__attribute__((noinline)) static int place_of(int pieces) {
  int sum = 0;
  for (int i = 0; i < 64; i++) {
    sum += places[i] ^ (i * pieces);
  }
  return sum;
}

int shelf(int pieces) {
  places[pieces & 63]++;
  return place_of(pieces);
}
