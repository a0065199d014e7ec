// Refusal: import-missing
// The program opens libm and is not linked with it: what it is linked with has no erf().
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

#ifndef HOW
#define HOW RTLD_LOCAL
#endif

double erf(double x);

__attribute__((noinline)) int value(int x) {
  return x;
}

void start(void) {
  if (!dlopen("libm.so.6", RTLD_NOW | HOW)) {
    abort();
  }
}

void probe(const char* request) {
  printf("%d", value(atoi(request)));
}
