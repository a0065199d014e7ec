static int calls;

static __attribute__((noinline)) int rate(int x) {
  calls += 3;
  return x * 3 + calls;
}

int (*volatile west_rate)(int) = rate;

int west(int x) {
  if (x > 1000) {
    return -1;
  }
  return rate(x) * 10;
}
