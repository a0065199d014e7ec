// first() is asked in the main thread, in one that was there before the patches, and in new ones.
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>

volatile int bias;
static sem_t asked, answered;
static int answer;

__attribute__((noinline)) int first(int x) {
  return x + 10 + bias;
}

static void* once(void* ignored) {
  (void)ignored;
  answer = first(1);
  return 0;
}

static void* live_on(void* ignored) {
  for (;;) {
    sem_wait(&asked);
    once(ignored);
    sem_post(&answered);
  }
  return 0;
}

void start(void) {
  pthread_t thread;
  sem_init(&asked, 0, 0);
  sem_init(&answered, 0, 0);
  pthread_create(&thread, 0, live_on, 0);
}

void probe(const char* request) {
  pthread_t thread;
  switch (request[0]) {
    case 'm':
      once(0);
      break;
    case 't':
      sem_post(&asked);
      sem_wait(&answered);
      break;
    default:
      pthread_create(&thread, 0, once, 0);
      pthread_join(thread, 0);
  }
  printf("%d", answer);
}
