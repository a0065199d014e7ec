// The function that gets thread-local variables. Its answer tells the values of all of them.
#include "touch.h"

extern int shared;
static __thread int known = 1;

__attribute__((noinline)) int touch(void) {
  known += shared;
  return known != 0 ? 0 : -1;
}
