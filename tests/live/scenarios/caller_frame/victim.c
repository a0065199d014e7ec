// top -> descend (8 times) -> sem_wait: the only trace of top is a return address deep in the stack,
// 800 KB above its end.
#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>

static sem_t up, enter, inside, leave, left;
static volatile int result;

__attribute__((noinline)) int descend(volatile int depth) {
  char room[100000];
  memset(room, depth, sizeof room);
  if (depth == 0) {
    sem_post(&inside);
    sem_wait(&leave);
    return room[depth];
  }
  return descend(depth - 1) + room[depth] - depth;
}

__attribute__((noinline)) int top(int x) {
  return descend(8) + x + 1;
}

__attribute__((noinline)) static void* work(void* argument) {
  sem_post(&up);
  for (;;) {
    sem_wait(&enter);
    result = top(5);
    sem_post(&left);
  }
  return argument;
}

void start(void) {
  pthread_t thread;
  sem_init(&up, 0, 0);
  sem_init(&enter, 0, 0);
  sem_init(&inside, 0, 0);
  sem_init(&leave, 0, 0);
  sem_init(&left, 0, 0);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, 4 << 20);
  pthread_create(&thread, &attributes, work, NULL);
  pthread_setname_np(thread, "holder");
  sem_wait(&up);
}

void probe(const char* request) {
  if (strcmp(request, "enter") == 0) {
    sem_post(&enter);
    sem_wait(&inside);
    printf("inside");
  } else {
    sem_post(&leave);
    sem_wait(&left);
    printf("%d", result);
  }
}
