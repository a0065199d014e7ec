#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

// Brings small functions over the size of a jump, at -Os too.
volatile int bias;
static sem_t entered, may_leave;
static pthread_t guest;
static int result;
static volatile long guest_id;

__attribute__((noinline)) int stay(int x) {
  sem_post(&entered);
  sem_wait(&may_leave);
  return x + 10 + bias;
}

__attribute__((noinline)) int second(int x) {
  return x + 20 + bias;
}

// No place at which somebody is suspended.
int (*volatile table[])(int) = {stay, second};

static void* visit(void* unused) {
  guest_id = syscall(SYS_gettid);
  result = stay(1);
  return unused;
}

void start(void) {
  sem_init(&entered, 0, 0);
  sem_init(&may_leave, 0, 0);
}

// `enter`: a thread goes into stay(). `leave`: it comes out. `2`: calls second().
void probe(const char* request) {
  if (strcmp(request, "enter") == 0) {
    pthread_create(&guest, NULL, visit, NULL);
    sem_wait(&entered);
  } else if (strcmp(request, "leave") == 0) {
    sem_post(&may_leave);
    pthread_join(guest, NULL);
    while (!syscall(SYS_tgkill, getpid(), guest_id, 0)) {  // the kernel takes a moment more
    }
    printf("%d", result);
  } else {
    printf("%d", second(2));
  }
}
