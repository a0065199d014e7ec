#include <stdarg.h>
#include <stdio.h>

__attribute__((noinline)) void total(int* whole, double* real, const char* kinds, ...) {
  va_list list;
  *whole = 0;
  *real = 0;
  va_start(list, kinds);
  for (; *kinds; kinds++) {
    if (*kinds == 'i') {
      *whole += va_arg(list, int);
    } else {
      *real += va_arg(list, double);
    }
  }
  va_end(list);
}

void probe(const char* request) {
  int whole;
  double real;
  (void)request;
  total(&whole, &real, "iidiid", 1, 2, 2.25, 4, 8, 4.25);
  printf("%d %.1f", whole, real);
}
