// A thread calls top(), which goes away to another stack and waits there: to a signal handler's
// ("handler"; "handler of coroutine": top() is on a coroutine's), or to a coroutine's ("coroutine").
// With "siblings" top() is on the stack of one coroutine while the thread waits on another one's, in
// the same memory.
#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#define STACK 65536

static sem_t up, enter, inside, leave, left;
static volatile int result;
static char mode[64];
static char* room;  // of two coroutines
static ucontext_t outside, second;
static ucontext_t* first;  // lies between their stacks

static void* map(size_t size) {
  char* at = mmap(NULL, size + 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED || mprotect(at + 4096, size, PROT_READ | PROT_WRITE)) {
    abort();
  }
  return at + 4096;
}

static void stay(int signal) {
  (void)signal;
  sem_post(&inside);
  sem_wait(&leave);
}

static void wait_here(void) {
  stay(0);
}

static void make(ucontext_t* context, char* stack, void (*function)(void)) {
  getcontext(context);
  context->uc_stack.ss_sp = stack;
  context->uc_stack.ss_size = STACK;
  context->uc_link = &outside;
  makecontext(context, function, 0);
}

__attribute__((noinline)) static void go_away(void) {
  if (!strncmp(mode, "handler", 7)) {
    raise(SIGUSR1);
  } else if (!strcmp(mode, "coroutine")) {
    make(&second, room + STACK + 4096, wait_here);
    swapcontext(&outside, &second);
  } else {
    swapcontext(first, &outside);
  }
  __asm__ volatile("");  // no jump there instead of a call
}

__attribute__((noinline)) int top(int x) {
  go_away();
  return x + 1;
}

static void run(void) {
  result = top(5);
}

static void* work(void* argument) {
  stack_t alternate = {.ss_sp = map(STACK), .ss_size = STACK};
  struct sigaction action = {.sa_handler = stay, .sa_flags = SA_ONSTACK | SA_NODEFER};
  sigaltstack(&alternate, NULL);
  sigaction(SIGUSR1, &action, NULL);
  room = map(2 * STACK + 4096);
  first = (ucontext_t*)(room + STACK);
  sem_post(&up);
  for (;;) {
    sem_wait(&enter);
    if (!strcmp(mode, "handler") || !strcmp(mode, "coroutine")) {
      run();
    } else {
      make(first, room, run);
      swapcontext(&outside, first);
      if (!strcmp(mode, "siblings")) {
        make(&second, room + STACK + 4096, wait_here);
        swapcontext(&outside, &second);
        swapcontext(&outside, first);
      }
    }
    memset(room, 0, 2 * STACK + 4096);  // as a program that frees its coroutines
    memset(alternate.ss_sp, 0, STACK);
    memset(&outside, 0, sizeof outside);
    memset(&second, 0, sizeof second);
    sem_post(&left);
  }
  return argument;
}

void start(void) {
  pthread_t thread;
  char* large = mmap(NULL, 4UL << 30, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  large[3UL << 30] = 1;
  sem_init(&up, 0, 0);
  sem_init(&enter, 0, 0);
  sem_init(&inside, 0, 0);
  sem_init(&leave, 0, 0);
  sem_init(&left, 0, 0);
  pthread_create(&thread, NULL, work, NULL);
  pthread_setname_np(thread, "holder");
  sem_wait(&up);
}

void probe(const char* request) {
  if (strcmp(request, "leave") == 0) {
    sem_post(&leave);
    sem_wait(&left);
    printf("%d", result);
  } else {
    strcpy(mode, request);
    sem_post(&enter);
    sem_wait(&inside);
    printf("inside");
  }
}
