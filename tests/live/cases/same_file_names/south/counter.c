static int counter = 10;

__attribute__((noinline)) static int advance(int step) {
  counter += step + step;
  return counter;
}

int south(int step) {
  return advance(step);
}
