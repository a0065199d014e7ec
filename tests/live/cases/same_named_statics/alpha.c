static int var = 10;

__attribute__((noinline)) static int foo(int step) {
  var += step;
  return var;
}

int alpha(int step) {
  return foo(step);
}
