// A variable that a patch adds, in the main thread and in a second one that is there before.
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>

static __thread int calls;
__thread int numbered = 100;

static sem_t up, asked, answered;
static int answer[2];

__attribute__((noinline)) void count(int* a, int* b) {
  calls++;
  numbered++;
  *a = calls;
  *b = numbered;
}

static void* work(void* argument) {
  sem_post(&up);
  for (;;) {
    sem_wait(&asked);
    count(&answer[0], &answer[1]);
    sem_post(&answered);
  }
  return argument;
}

void start(void) {
  pthread_t thread;
  sem_init(&up, 0, 0);
  sem_init(&asked, 0, 0);
  sem_init(&answered, 0, 0);
  pthread_create(&thread, NULL, work, NULL);
  sem_wait(&up);
}

void probe(const char* request) {
  if (request[0] == 'm') {
    count(&answer[0], &answer[1]);
  } else {
    sem_post(&asked);
    sem_wait(&answered);
  }
  printf("%d %d", answer[0], answer[1]);
}
