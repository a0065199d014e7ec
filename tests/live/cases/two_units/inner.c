int limit = 100;

__attribute__((noinline)) int inner(int x) {
  return x * 2 > limit ? limit : x * 2;
}
