#include <cstdio>
#include <cstdlib>

struct Counter {
  int value;
  explicit Counter(int start);
};
__attribute__((noinline)) Counter::Counter(int start) : value(start) {}

thread_local Counter calls(std::atoi("3"));

__attribute__((noinline)) int work(int x) {
  return x + calls.value++;
}

extern "C" void probe(const char* request) {
  std::printf("%d", work(std::atoi(request)));
}
