#include "sizes.h"

int other(int x) {
  return x + SMALL;
}
