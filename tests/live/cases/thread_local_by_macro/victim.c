#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define PER_THREAD __thread

static PER_THREAD int calls = 1;

__attribute__((noinline)) int work(int x) {
  return x + calls++;
}

static void* wait(void* nothing) {
  pause();
  return nothing;
}

// Another thread, as what the first one maps for itself stays then.
void start(void) {
  pthread_t thread;
  pthread_create(&thread, 0, wait, 0);
}

void probe(const char* request) {
  printf("%d", work(atoi(request)));
}
