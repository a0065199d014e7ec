// SIGUSR1 makes a thread, SIGUSR2 ends one; whichever thread gets the signal. Each calls value() all the
// time and counts answers that are neither the old one nor the new one.
#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static sem_t make, end;
static volatile int wrong;

__attribute__((noinline)) int value(int x) {
  return x + 1;
}

static void on_signal(int signal) {
  sem_post(signal == SIGUSR1 ? &make : &end);
}

static void* live(void* unused) {
  while (sem_trywait(&end)) {
    int answer = value(5);
    if (answer != 6 && answer != 7) {
      wrong++;
    }
    usleep(100);
  }
  return unused;
}

static void* make_all(void* unused) {
  pthread_t thread;
  for (;;) {
    if (!sem_wait(&make) && !pthread_create(&thread, NULL, live, NULL)) {
      pthread_detach(thread);
    }
  }
  return unused;
}

void start(void) {
  pthread_t thread;
  sem_init(&make, 0, 1);
  sem_init(&end, 0, 0);
  signal(SIGUSR1, on_signal);
  signal(SIGUSR2, on_signal);
  pthread_create(&thread, NULL, make_all, NULL);
}

void probe(const char* request) {
  printf("%d", !strcmp(request, "wrong") ? wrong : value(5));
}
