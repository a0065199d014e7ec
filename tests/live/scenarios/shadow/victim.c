#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct session {
  int number;
};

enum { kSessions = 300, kThreads = 4 };
struct session* sessions[kSessions];
int rounds;

__attribute__((noinline)) long work(struct session* session) { return session->number; }

static void* run(void* unused) {
  int round, i;
  for (round = 0; round < rounds; round++) {
    for (i = 0; i < kSessions; i++) {
      work(sessions[i]);
    }
  }
  return unused;
}

void start(void) {
  int i;
  for (i = 0; i < kSessions; i++) {
    sessions[i] = malloc(sizeof(struct session));
    sessions[i]->number = i;
  }
}

void probe(const char* request) {
  pthread_t threads[kThreads];
  int i;
  if (sscanf(request, "run %d", &rounds) == 1) {
    for (i = 0; i < kThreads; i++) {
      pthread_create(&threads[i], NULL, run, NULL);
    }
    for (i = 0; i < kThreads; i++) {
      pthread_join(threads[i], NULL);
    }
    printf("ok");
  } else {
    printf("%ld", work(sessions[atoi(request)]));
  }
}
