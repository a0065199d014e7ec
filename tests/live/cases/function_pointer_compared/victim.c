// remember() ran before the patch; the comparison runs in patched code after it.
#include <stdio.h>

typedef int handler(void);

handler* remembered;

__attribute__((noinline)) int handle(void) {
  return 1;
}

void start(void) {
  remembered = handle;
}

__attribute__((noinline)) const char* compare(void) {
  return remembered == handle ? "same" : "other";
}

void probe(const char* request) {
  (void)request;
  printf("%s %d", compare(), handle());
}
