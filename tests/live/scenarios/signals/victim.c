#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>

static volatile sig_atomic_t ticks, value;

// Brings tick() over the size of a jump, at -Os too.
volatile int bias;

__attribute__((noinline)) int tick(int x) {
  return x + 1 + bias;
}

static void on_alarm(int signal) {
  (void)signal;
  value = tick(10);
  ticks++;
}

static void set_timer(int microseconds) {
  struct itimerval timer = {{0, microseconds}, {0, microseconds}};
  setitimer(ITIMER_REAL, &timer, NULL);
}

void start(void) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = on_alarm;
  action.sa_flags = SA_RESTART;
  sigaction(SIGALRM, &action, NULL);
}

void probe(const char* request) {
  if (strcmp(request, "on") == 0) {
    set_timer(500);
  } else if (strcmp(request, "off") == 0) {
    set_timer(0);
  }
  if (strcmp(request, "wait") == 0) {
    for (int until = ticks + 20; ticks < until;) {
    }
    printf("%d", value);
  } else {
    printf("%s", request);
  }
}
