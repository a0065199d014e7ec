#include "rates.h"

__attribute__((noinline)) int bank(int amount) {
  return with_fee(amount * 10);
}
