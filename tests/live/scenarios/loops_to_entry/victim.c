// hold() waits in a loop that begins at its first instruction, so that its old code jumps to where the
// detour would be.
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

static volatile int wanted, inside, leave, result, six = 6;

__attribute__((noinline)) int hold(void) {
  while (!leave) {
  }
  return six;
}

static void* work(void* argument) {
  for (;;) {
    while (!wanted) {
      sched_yield();
    }
    wanted = 0;
    inside = 1;
    result = hold();
    inside = 0;
  }
  return argument;
}

void start(void) {
  pthread_t thread;
  pthread_create(&thread, NULL, work, NULL);
}

void probe(const char* request) {
  if (strcmp(request, "enter") == 0) {
    leave = 0;
    wanted = 1;
    while (!inside) {
      sched_yield();
    }
    printf("inside");
  } else {
    leave = 1;
    while (inside) {
      sched_yield();
    }
    printf("%d", result);
  }
}
