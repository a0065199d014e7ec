#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int wake[2];
static volatile int steps;
static sem_t up;

/* Ends the program: no return either, but nobody stays in it. */
__attribute__((noinline, noreturn)) void give_up(const char* why) {
  puts(why);
  abort();
}

__attribute__((noinline)) int step(int x) {
  switch (x) { /* a jump table */
    case 0: return 4;
    case 1: return 9;
    case 2: return 3;
    case 3: return 11;
    case 4: puts("never"); return 1;
    case 5: return 7;
    default: return x + 1;
  }
}

__attribute__((noinline)) void serve(int from) {
  char c;
  sem_post(&up);
  for (;;) {
    if (read(from, &c, 1) != 1) {
      give_up("no pipe");
    }
    steps += step(c);
  }
}

static void* work(void* argument) {
  serve(wake[0]);
  return argument;
}

void start(void) {
  pthread_t thread;
  sem_init(&up, 0, 0);
  if (pipe(wake)) {
    abort();
  }
  pthread_create(&thread, NULL, work, NULL);
  sem_wait(&up);
}

void probe(const char* request) {
  printf("%s %d", request, steps);
}
