#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>

// Brings small functions over the size of a jump.
volatile int bias;
int (*callback)(int);
static volatile int waits;
static sem_t entered, may_leave;
static pthread_t guest;
static int result;

// What callbacks call: a thread that is told to stays here.
__attribute__((noinline)) int pass(int x) {
  if (waits) {
    waits = 0;
    sem_post(&entered);
    sem_wait(&may_leave);
  }
  return x + bias;
}

__attribute__((noinline)) int work(int x) {
  return x + 1 + bias;
}

static void* visit(void* unused) {
  result = callback(5);
  return unused;
}

void start(void) {
  sem_init(&entered, 0, 0);
  sem_init(&may_leave, 0, 0);
}

// `w`: works. `c`: calls what is registered. `enter`: a thread calls it, and stays. `leave`: it comes out.
void probe(const char* request) {
  if (strcmp(request, "enter") == 0) {
    waits = 1;
    pthread_create(&guest, NULL, visit, NULL);
    sem_wait(&entered);
    printf("in");
  } else if (strcmp(request, "leave") == 0) {
    sem_post(&may_leave);
    pthread_join(guest, NULL);
    printf("%d", result);
  } else {
    printf("%d", request[0] == 'w' ? work(5) : callback ? callback(5) : -1);
  }
}
