int rate = 10;

__attribute__((noinline)) int price(int pieces) {
  return pieces * rate + 1;
}
