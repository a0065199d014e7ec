#include <errno.h>
#include <stdio.h>
#include <unistd.h>

__attribute__((noinline)) int why(void) {
  return 0;
}

void probe(const char* request) {
  (void)request;
  printf("%d", why());
}
