// target() calls down and returns; then lurk() makes a frame over the dead part of the stack without
// writing there, and waits. "stale" is said only if a word that points into target() lies in it.
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

volatile int sink;

__attribute__((noinline)) int deepest(int x) {
  sink = x;
  return x;
}

__attribute__((noinline)) int target(int x) {
  volatile int room[50];  // brings the return address into the middle of lurk's frame
  room[x] = x;
  return deepest(room[x]) + 1;
}

__attribute__((noinline)) static void lurk(void) {
  static char line[64];
  uintptr_t words[64];
  const char* said = "clean\n";
  __asm__ volatile("" : "=m"(words));
  for (int i = 0; i < 64; i++) {
    uintptr_t into = words[i] - (uintptr_t)target;
    if (into > 0 && into < 96) {
      said = "stale\n";
    }
  }
  if (write(1, said, 6) != 6 || read(0, line, sizeof line) <= 0) {
    _exit(1);
  }
  __asm__ volatile("" : : "m"(words));
}

void probe(const char* request) {
  if (strcmp(request, "lurk") == 0) {
    target(5);
    lurk();
    printf("back");
  } else {
    printf("%d", target(5));
  }
}
