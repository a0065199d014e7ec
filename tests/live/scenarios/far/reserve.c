// Leaves nothing free within 3 GiB of a place; but, with HOLE, one page.
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

static void take(unsigned long low, unsigned long high) {
  if (low < high) {
    mmap((void*)low, high - low, PROT_NONE,
         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
  }
}

void reserve_near(const void* middle) {
  static unsigned long low[200], high[200];
  const unsigned long reach = 3UL << 30, page = 4096;
  const unsigned long at = (uintptr_t)middle / page * page;
  unsigned long from = at > reach ? at - reach : 16 * page;
  const unsigned long to = at + reach;
  char line[512];
  int count = 0;
  free(malloc(100000));
  FILE* maps = fopen("/proc/self/maps", "r");
  while (count < 200 && fgets(line, sizeof line, maps)) {
    count += sscanf(line, "%lx-%lx", &low[count], &high[count]) == 2;
  }
  fclose(maps);
  for (int i = 0; i < count && from < to; i++) {
    if (high[i] > from) {
      take(from, low[i] < to ? low[i] : to);
      from = high[i];
    }
  }
  take(from, to);
#ifdef HOLE
  munmap((void*)(at + (256UL << 20)), page);
#endif
}
