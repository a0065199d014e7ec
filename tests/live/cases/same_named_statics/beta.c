static int var = 20;

__attribute__((noinline)) static int foo(int step) {
  var += 2 * step;
  return var;
}

int beta(int step) {
  return foo(step);
}
