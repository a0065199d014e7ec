// As a debugger or a just-in-time tracer does it: an int3 over the first byte of value().
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

// Brings value() over the size of a jump, at -Os too.
volatile int bias;

__attribute__((noinline)) int value(int x) {
  return x + 1 + bias;
}

static void write_first_byte(unsigned char byte) {
  void* page = (void*)((uintptr_t)value & ~(uintptr_t)4095);
  mprotect(page, 4096, PROT_READ | PROT_WRITE | PROT_EXEC);
  *(volatile unsigned char*)(uintptr_t)value = byte;
  mprotect(page, 4096, PROT_READ | PROT_EXEC);
}

void probe(const char* request) {
  static unsigned char saved;
  if (strcmp(request, "set") == 0) {
    saved = *(volatile unsigned char*)(uintptr_t)value;
    write_first_byte(0xcc);
    printf("set");
  } else if (strcmp(request, "unset") == 0) {
    write_first_byte(saved);
    printf("unset");
  } else {
    printf("%d", value(1));
  }
}
