#ifndef RATES_H
#define RATES_H

#define RATE 2

static inline int with_fee(int amount) {
  return amount + 5;
}

#endif
