// SIGUSR1 makes a child, SIGUSR2 runs the program anew, SIGTERM ends it with 9. Two threads wait for that, so
// that one does it while the other is borrowed. A child ends by SIGUSR2, and tells value() by its exit code.
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile pid_t child;
static sigset_t orders;

__attribute__((noinline)) int value(int x) {
  return x + 1;
}

static void* obey(void* unused) {
  int order;
  while (!sigwait(&orders, &order)) {
    const pid_t forked = order == SIGUSR1 ? fork() : 1;
    if (order == SIGTERM) {
      _exit(9);
    } else if (!forked) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      while (sigwait(&orders, &order) || order != SIGUSR2) {
      }
      _exit(value(5));
    } else if (order == SIGUSR2) {
      execl("/proc/self/exe", "victim", NULL);
    } else {
      child = forked;
    }
  }
  return unused;
}

void start(void) {
  pthread_t thread;
  sigemptyset(&orders);
  sigaddset(&orders, SIGUSR1);
  sigaddset(&orders, SIGUSR2);
  sigaddset(&orders, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &orders, NULL);
  pthread_create(&thread, NULL, obey, NULL);
  pthread_create(&thread, NULL, obey, NULL);
}

// `child`: the number of the latest one. `reap`: its value().
void probe(const char* request) {
  int status = 0;
  if (!strcmp(request, "child")) {
    printf("%d", child);
  } else if (!strcmp(request, "reap")) {
    kill(child, SIGUSR2);
    waitpid(child, &status, 0);
    child = 0;
    printf("%d", WIFEXITED(status) ? WEXITSTATUS(status) : -1);
  } else {
    printf("%d", value(5));
  }
}
