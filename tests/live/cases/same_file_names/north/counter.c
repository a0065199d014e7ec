static int counter = 10;

__attribute__((noinline)) static int advance(int step) {
  counter += step;
  return counter;
}

int north(int step) {
  return advance(step);
}
