// Asks touch() in all kinds of threads.
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "touch.h"

static sem_t asked[5], answered[5];
static int answers[5];
static pthread_key_t key;
static int seen_by_destructor, seen_by_handler;

static void* live_on(void* number) {
  for (long n = (long)number;;) {
    sem_wait(&asked[n]);
    answers[n] = touch();
    sem_post(&answered[n]);
  }
  return 0;
}

static void destroy(void* ignored) {
  (void)ignored;
  seen_by_destructor = touch();
}

static void handle(int ignored) {
  (void)ignored;
  seen_by_handler = touch();
}

static void* touch_twice(void* out) {
  touch();
  *(int*)out = touch();
  return (void*)pthread_self();
}

static void* touch_and_end(void* out) {
  *(int*)out = touch();
  pthread_setspecific(key, out);
  return 0;
}

static void* be_interrupted(void* out) {
  raise(SIGUSR1);
  *(int*)out = touch();
  return 0;
}

static void* run(void* (*what)(void*), int* out) {
  pthread_t thread;
  void* result = 0;
  if (pthread_create(&thread, 0, what, out) != 0 || pthread_join(thread, &result) != 0) {
    abort();
  }
  return result;
}

static int count_mappings(void) {
  FILE* maps = fopen("/proc/self/maps", "r");
  int lines = 0, c;
  while ((c = getc(maps)) != EOF) {
    lines += c == '\n';
  }
  fclose(maps);
  return lines;
}

void start_threads(void) {
  struct sigaction action = {.sa_handler = handle};
  sigaction(SIGUSR1, &action, 0);
  pthread_key_create(&key, destroy);
  for (long n = 1; n < 5; ++n) {
    pthread_t thread;
    sem_init(&asked[n], 0, 0);
    sem_init(&answered[n], 0, 0);
    pthread_create(&thread, 0, live_on, (void*)n);
  }
}

int answer(int x) {
  int out = -1, before;
  void* first;
  if (1 <= x && x <= 4) {  // a thread that was there before the patch
    sem_post(&asked[x]);
    sem_wait(&answered[x]);
    return answers[x];
  }
  switch (x) {
    case 0:
      return touch();
    case 5:  // a thread that is born later
      run(touch_twice, &out);
      return out;
    case 6:  // two, one behind the other, in the same memory
      first = run(touch_twice, &out);
      return run(touch_twice, &out) == first ? out : -1;
    case 7:  // in the destructor of a key, when the thread ends
      run(touch_and_end, &out);
      return seen_by_destructor - out;
    case 8:  // what ended threads leave
      run(touch_twice, &out);
      before = count_mappings();
      for (int i = 0; i < 10; ++i) {
        run(touch_twice, &out);
        run(touch_and_end, &out);
      }
      return count_mappings() - before;
    case 9:  // a signal handler is the first
      run(be_interrupted, &out);
      return out - seen_by_handler;
    default:
      return -1;
  }
}
