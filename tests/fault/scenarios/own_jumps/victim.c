#include <stdio.h>
#include <stdlib.h>

// jmp to each page of the megabyte that images of programs at fixed addresses are placed in
__asm__(".text\n"
        ".set place, 0x7fe00010\n"
        ".rept 512\n"
        ".byte 0xe9\n"
        ".long place - . - 4\n"
        ".set place, place + 4096\n"
        ".endr\n");

__attribute__((noinline)) int value(int x) {
  return x + 1;
}

void probe(const char* request) {
  printf("%d", value(atoi(request)));
}
