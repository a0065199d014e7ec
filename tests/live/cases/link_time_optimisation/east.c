static int calls;

static __attribute__((noinline)) int rate(int x) {
  calls += 2;
  return x * 2 + calls;
}

int (*volatile east_rate)(int) = rate;

int east(int x) {
  if (x > 1000) {
    return -1;
  }
  return rate(x) * 10;
}
