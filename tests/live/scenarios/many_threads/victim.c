// pair() writes two numbers that belong together. `status` waits until each thread has made a call
// that began after the question, and says which versions they ran and how many calls were torn.
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>

#define THREADS 64

static atomic_int question, torn, old_seen, new_seen, answered[THREADS], begun[THREADS];

__attribute__((noinline)) void pair(int x, int* a, int* b) {
  *a = x * 3;
  *b = x * 3 + 1;
}

__attribute__((noinline)) static void elsewhere(void) {
  for (volatile int i = 0; i < 3000; i++) {
  }
}

static void* work(void* argument) {
  int me = (int)(long)argument;
  atomic_store(&begun[me], 1);
  for (int x = 1;; x = x % 1000 + 1) {
    int asked = atomic_load(&question);
    int a = 0, b = 0;
    pair(x, &a, &b);
    if (a == x * 3 && b == a + 1) {
      if (answered[me] != asked) {
        atomic_fetch_add(&old_seen, 1);
      }
    } else if (a == x * 5 && b == a + 2) {
      if (answered[me] != asked) {
        atomic_fetch_add(&new_seen, 1);
      }
    } else {
      atomic_fetch_add(&torn, 1);
    }
    atomic_store(&answered[me], asked);
    elsewhere();
  }
  return NULL;
}

void start(void) {
  for (long i = 0; i < THREADS; i++) {
    pthread_t thread;
    pthread_create(&thread, NULL, work, (void*)i);
  }
  // Until each has begun.
  for (int i = 0; i < THREADS; i++) {
    while (!atomic_load(&begun[i])) {
      sched_yield();
    }
  }
}

void probe(const char* request) {
  (void)request;
  atomic_store(&old_seen, 0);
  atomic_store(&new_seen, 0);
  int asked = atomic_fetch_add(&question, 1) + 1;
  for (int i = 0; i < THREADS; i++) {
    while (atomic_load(&answered[i]) != asked) {
      sched_yield();
    }
  }
  printf("old %d new %d torn %d", old_seen, new_seen, torn);
}
