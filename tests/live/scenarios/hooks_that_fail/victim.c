#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int limit = 10;
int order;
char trace[64];
int traced, caught;
volatile unsigned long beats;
volatile int leaving;

static void on_fault(int signal) {
  (void)signal;
  caught++;
}

static void on_order(int signal) {
  (void)signal;
  leaving = 1;
}

static void* beat(void* unused) {
  (void)unused;
  for (;;) {
    beats++;
    usleep(100);
  }
}

void start(void) {
  pthread_t thread;
  pthread_create(&thread, NULL, beat, NULL);
  pthread_create(&thread, NULL, beat, NULL); /* one of them may have to run a hook */
  signal(SIGSEGV, on_fault);
  signal(SIGUSR1, on_order);
  errno = 42;
}

__attribute__((noinline)) int clamp(int x) { return x > limit ? limit : x; }

void probe(const char* request) {
  if (sscanf(request, "order %d", &order) == 1) {
    traced = 0;
    memset(trace, 0, sizeof trace);
    printf("ok");
  } else if (!strcmp(request, "trace")) {
    printf("%s %d", trace, errno);
  } else if (!strcmp(request, "raise")) {
    raise(SIGSEGV);
    printf("%d", caught);
  } else {
    printf("%d", clamp(atoi(request)));
  }
}
