#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static int calls;

__attribute__((noinline)) int value(int x) {
  return x + 1 + calls++;
}

// Takes the 64 MiB below our own code, so that an image has to go elsewhere.
static int take_place(void) {
  const uintptr_t below = ((uintptr_t)value & ~0xffffUL) - (65UL << 20);
  return mmap((void*)below, 64UL << 20, PROT_NONE,
              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0) ==
         (void*)below;
}

void probe(const char* request) {
  if (strcmp(request, "take") == 0) {
    printf("%d", take_place());
  } else {
    printf("%d", value(atoi(request)));
  }
}
