#include <stdio.h>
#include <stdlib.h>

struct mixed {
  int a, b;
  double c;
};

struct large {
  long values[4];
  char padding[40];
};

__attribute__((noinline)) struct mixed make_mixed(int from) {
  struct mixed m = {from, from + 1, from + 2};
  return m;
}

__attribute__((noinline)) struct large make_large(int from) {
  struct large l = {{from, 2 * from, 3 * from}, "text"};
  l.values[3] = 4 * from;
  return l;
}

void probe(const char* request) {
  struct mixed m = make_mixed(atoi(request));
  struct large l = make_large(atoi(request));
  printf("%d %d %.1f / %ld %ld %ld %ld", m.a, m.b, m.c, l.values[0], l.values[1], l.values[2],
         l.values[3]);
}
