// Everything that code refers to in its program, in a process that has nothing free near it.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void reserve_near(const void* middle);

struct pair {
  long low, high;
};

static __attribute__((noinline)) int twice(int x) {
  return 2 * x + 1;
}
static __attribute__((noinline)) int third(int x) {
  return x / 3 + 7;
}

static int (*volatile step)(int) = twice;
static volatile long count = 5;
static volatile double weight = 1.5;
static volatile unsigned char flag = 3;
static volatile short small = -4;
static struct pair both = {11, 13};
static int table[40];
static long once, owner;
static __thread long mine = 3;
int exported = 17;
static const char fifty[] = "50";

__attribute__((noinline)) int leave(int x) {
  return step(x + table[x & 7] + 1);
}

__attribute__((noinline)) long work(int x) {
  long sum = x + count++;
  weight += 0.25;
  flag |= 8;
  small--;
  __sync_fetch_and_add(&once, 3);
  sum += __sync_bool_compare_and_swap(&owner, 0, x) + __sync_lock_test_and_set(&owner, x + 1);
  sum += (long)(weight * 4) + flag + small + step(x);
  struct pair copy = both;
  both.low += copy.high;
  table[x & 15] += (int)copy.low;
  mine += exported;
  exported++;
  switch (x) {
    case 1:
      sum += leave(x);
      break;
    case 2:
      sum += (long)strlen("four") + table[2];
      break;
    case 3:
      step = third;
      break;
    case 4:
      step = twice;
      break;
    case 5:
      sum += atoi(fifty) + (step == twice);
      break;
    default:
      sum -= 1;
  }
  return sum + mine + once + third((int)sum);
}

__attribute__((noinline)) int with_room(int x) {
  return (x + table[0]) * (x + table[1]) / (x + 1000);
}

void start(void) {
  for (int i = 0; i < 40; ++i) {
    table[i] = i;
  }
#ifndef LATER
  reserve_near((const void*)work);
#endif
}

void probe(const char* request) {
  const int x = atoi(request);
  printf("%ld %d %ld %d", work(x), leave(x), both.low + count + mine, exported + with_room(x) + atoi(fifty));
}
