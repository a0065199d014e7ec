#include "rates.h"

__attribute__((noinline)) int shop(int amount) {
  return amount * RATE + 3;
}
