/* A pre-forked server: workers that answer by themselves, and what else makes processes. */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

__attribute__((noinline)) int price(int x) {
  __asm__ volatile("" : "+r"(x));
  return x * 10 + 1;
}

struct worker {
  int to, from;
  pid_t pid;
};
static struct worker workers[16];
static int count;
static char stack[1 << 16];
static int gate[2];

/* Answers until the server is gone. */
static void serve(int from, int to) {
  char c;
  while (read(from, &c, 1) == 1) {
    char text[8] = "";
    snprintf(text, sizeof text, "%d", price(c - '0'));
    if (write(to, text, 2) != 2) {
      break;
    }
  }
  _exit(0);
}

static void add_worker(int orphan) {
  int to[2], from[2], told[2];
  struct worker* w = &workers[count++];
  if (pipe(to) || pipe(from) || pipe(told)) {
    abort();
  }
  w->pid = fork();
  if (w->pid == 0) {
    if (orphan) { /* as a daemon does */
      pid_t self;
      if (fork() != 0) {
        _exit(0);
      }
      setsid();
      self = getpid();
      if (write(told[1], &self, sizeof self) != sizeof self) {
        abort();
      }
    }
    for (int fd = 0; fd < 256; ++fd) { /* its end comes with the server's */
      if (fd != to[0] && fd != from[1]) {
        close(fd);
      }
    }
    serve(to[0], from[1]);
  }
  close(to[0]);
  close(from[1]);
  w->to = to[1];
  w->from = from[0];
  if (orphan) {
    waitpid(w->pid, NULL, 0);
    if (read(told[0], &w->pid, sizeof w->pid) != sizeof w->pid) {
      abort();
    }
  }
  close(told[0]);
  close(told[1]);
}

static int share(void* argument) {
  char c;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (read(gate[0], &c, 1) != 1) {
    return 1;
  }
  return argument != NULL;
}

void probe(const char* request) {
  static pid_t peer;
  int i;
  if (strcmp(request, "fork") == 0) {
    add_worker(0);
    printf("%d", (int)workers[count - 1].pid);
  } else if (strcmp(request, "daemon") == 0) {
    add_worker(1);
    printf("%d", (int)workers[count - 1].pid);
  } else if (strcmp(request, "share") == 0) {
    if (pipe(gate)) {
      abort();
    }
    peer = clone(share, stack + sizeof stack, CLONE_VM | SIGCHLD, NULL);
    printf("%d", (int)peer);
  } else if (strcmp(request, "part") == 0) {
    if (write(gate[1], "x", 1) != 1) {
      abort();
    }
    waitpid(peer, NULL, 0);
    close(gate[0]);
    close(gate[1]);
    printf("alone");
  } else if (strcmp(request, "exec") == 0) {
    execl("/proc/self/exe", "again", NULL);
  } else {
    printf("%d", price(request[0] - '0'));
    for (i = 0; i < count; ++i) {
      char text[3] = "";
      if (write(workers[i].to, request, 1) != 1 || read(workers[i].from, text, 2) != 2) {
        abort();
      }
      printf(" %s", text);
    }
  }
}
