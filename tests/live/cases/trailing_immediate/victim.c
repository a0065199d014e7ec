// `movl $1, x(%rip)` has the constant behind the relocated field, which its addend has to know.
#include <stdio.h>

static char tiny;
static short small;
int whole;
static long table[4];
static struct {
  char room[100];
  int member;
} record;
extern int elsewhere;

__attribute__((noinline)) void set(void) {
  tiny = 1;
  small = 2;
  whole = 3;
  table[2] = 4;
  record.member = 5;
  elsewhere = 6;
}

__attribute__((noinline)) void show(void) {
  printf("%d %d %d %ld %d %d", tiny, small, whole, table[2], record.member, elsewhere);
}

void probe(const char* request) {
  (void)request;
  tiny = 0;
  small = 0;
  table[2] = 0;
  record.member = 0;
  set();
  show();
}
