// A process of a test's own: started, looked after, ended.
#pragma once

#include <functional>
#include <string>

#include <sys/mman.h>
#include <sys/types.h>

namespace qp::test {

// A child process that runs `body`. Constructed once the body has called ready().
class Victim {
 public:
  using Body = std::function<void(const std::function<void()>& ready)>;
  explicit Victim(const Body& body);
  Victim(const Victim&) = delete;
  Victim& operator=(const Victim&) = delete;
  ~Victim();  // kills it
  pid_t pid() const { return pid_; }
  // Every thread: TracerPid 0 and neither stopped nor in a tracing stop.
  void expect_untouched() const;

 private:
  pid_t pid_ = 0;
};

// A value that the test and its victims see.
template <class T>
class Shared {
 public:
  Shared() {
    void* at =
        ::mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    value_ = new (at) T{};
  }
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;
  ~Shared() { ::munmap(value_, sizeof(T)); }
  T* operator->() const { return value_; }
  T& operator*() const { return *value_; }

 private:
  T* value_ = nullptr;
};

// Yields until the condition holds; a failure of the test after 20 s.
void until(const std::function<bool()>& condition, const std::string& what);

char state_of(pid_t pid, pid_t tid);  // of /proc; 0 if gone
// The thread sleeps, in this system call if number >= 0.
bool sleeps(pid_t pid, pid_t tid, long number = -1);
pid_t tracer_of(pid_t pid, pid_t tid);
pid_t this_tid();

// What victims do with the rest of their lives. (An empty endless loop is no loop to a compiler.)
[[noreturn]] void spin();
[[noreturn]] void sleep_for_ever();
// Whole bodies.
void just_spin(const std::function<void()>& ready);
void just_sleep(const std::function<void()>& ready);

}  // namespace qp::test
