#include <pthread.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

static int made;

struct Counter {
  int value;
  Counter();
  ~Counter();
};
__attribute__((noinline)) Counter::Counter() : value(10 * ++made) {}
__attribute__((noinline)) Counter::~Counter() { made = 0; }

thread_local Counter calls;

__attribute__((noinline)) int work(int x) {
  return x + calls.value++;
}

static void* wait(void* nothing) {
  pause();
  return nothing;
}

// Another thread, as what the first one maps for itself stays then.
extern "C" void start(void) {
  pthread_t thread;
  pthread_create(&thread, nullptr, wait, nullptr);
}

extern "C" void probe(const char* request) {
  std::printf("%d", work(std::atoi(request)));
}
