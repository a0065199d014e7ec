#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

// Brings value() over the size of a jump, at -Os too.
volatile int bias;

__attribute__((noinline)) int value(int x) {
  return x + 1 + bias;
}

static void take(unsigned long low, unsigned long high) {
  if (low < high) {
    mmap((void*)low, high - low, PROT_NONE,
         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
  }
}

// Reserves every gap within 3 GiB of our own code.
void start(void) {
  static unsigned long low[200], high[200];
  char line[512];
  int count = 0;
  unsigned long middle = (uintptr_t)value;
  unsigned long from = middle > (3UL << 30) ? middle - (3UL << 30) : 65536;
  unsigned long to = middle + (3UL << 30);
  free(malloc(100000));
  FILE* maps = fopen("/proc/self/maps", "r");
  while (count < 200 && fgets(line, sizeof line, maps)) {
    count += sscanf(line, "%lx-%lx", &low[count], &high[count]) == 2;
  }
  fclose(maps);
  from &= ~4095UL;
  to &= ~4095UL;
  for (int i = 0; i < count && from < to; i++) {
    if (high[i] <= from) {
      continue;
    }
    take(from, low[i] < to ? low[i] : to);
    from = high[i];
  }
  take(from, to);
}

void probe(const char* request) {
  (void)request;
  printf("%d", value(1));
}
