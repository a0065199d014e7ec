int inner(int x);

__attribute__((noinline)) int outer(int x) {
  return inner(x) + 1;
}
