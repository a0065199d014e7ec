/* The victim of bench/pause: one thread that spins and records the largest gap between two looks at
 * the clock, and any number of threads that sleep or compute. Whatever stops the process shows up as
 * a gap. Beside threads that compute the spinning one runs with a higher priority, so that the gap
 * is not theirs.
 *
 * argv: SLEEPING_THREADS COMPUTING_THREADS SHARED_FILE ["asleep": nobody spins]. The shared file holds
 * struct shared (see pause.cc). */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

struct shared {
  _Atomic uint64_t largest_gap_ns;
  _Atomic uint64_t answer;
  _Atomic uint64_t reset; /* set by the driver, cleared by us */
  _Atomic uint64_t stop;
  _Atomic uint64_t looks; /* at the clock, so far */
};

/* The function that is replaced. */
__attribute__((noinline)) uint64_t answer(uint64_t x) {
  if (x == 0) {
    return 1;
  }
  return x % 7 == 0 ? 2 : 3;
}

static void *sleeper(void *unused) {
  (void)unused;
  for (;;) {
    pause();
  }
  return NULL;
}

static void *computer(void *unused) {
  (void)unused;
  for (volatile uint64_t i = 0;; ++i) {
  }
  return NULL;
}

static int start(int threads, void *(*run)(void *)) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, 65536);
  for (int i = 0; i < threads; ++i) {
    pthread_t thread;
    if (pthread_create(&thread, &attributes, run, NULL) != 0) {
      return 0;
    }
  }
  return 1;
}

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

int main(int argc, char **argv) {
  if (argc < 4) {
    return 2;
  }
  int fd = open(argv[3], O_RDWR);
  struct shared *s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (s == MAP_FAILED || !start(atoi(argv[1]), sleeper) || !start(atoi(argv[2]), computer)) {
    return 2;
  }
  if (atoi(argv[2]) != 0 && setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), -20) != 0) {
    return 2;
  }
  puts("ready");
  fflush(stdout);
  while (argc > 4) {
    pause();
  }
  uint64_t last = now();
  while (!atomic_load_explicit(&s->stop, memory_order_relaxed)) {
    uint64_t t = now();
    if (atomic_load_explicit(&s->reset, memory_order_acquire)) {
      atomic_store(&s->largest_gap_ns, 0);
      atomic_store(&s->answer, answer(0));
      atomic_store_explicit(&s->reset, 0, memory_order_release);
      t = now();
    } else if (t - last > atomic_load_explicit(&s->largest_gap_ns, memory_order_relaxed)) {
      atomic_store_explicit(&s->largest_gap_ns, t - last, memory_order_relaxed);
    }
    last = t;
    atomic_fetch_add_explicit(&s->looks, 1, memory_order_release);
  }
  return 0;
}
