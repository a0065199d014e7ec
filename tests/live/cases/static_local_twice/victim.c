// The counters differ in start and step, so that a mix-up of the two shows in every answer.
#include <stdio.h>

__attribute__((noinline)) int first(void) {
  static int aaa = 100;
  aaa += 1;
  return aaa;
}

__attribute__((noinline)) int second(void) {
  static int aaa = 200;
  aaa += 7;
  return aaa;
}

void probe(const char* request) {
  printf("%d", request[0] == 'o' ? first() : second());
}
