#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>

// Brings value() over the size of a jump, at -Os too.
volatile int bias;

__attribute__((noinline)) int value(int x) {
  return x + 1 + bias;
}

// Maps the text that this very function lies in once more, shared, from the same file.
void start(void) {
  char line[512];
  unsigned long low, high, offset;
  FILE* maps = fopen("/proc/self/maps", "r");
  int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  while (fgets(line, sizeof line, maps)) {
    if (sscanf(line, "%lx-%lx %*s %lx", &low, &high, &offset) == 3 && low <= (uintptr_t)value &&
        (uintptr_t)value < high) {
      mmap((void*)low, high - low, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_FIXED, file,
           (off_t)offset);
      break;
    }
  }
  fclose(maps);
}

void probe(const char* request) {
  (void)request;
  printf("%d", value(1));
}
