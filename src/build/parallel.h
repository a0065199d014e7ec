// A loop whose rounds are independent.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>
#include <thread>
#include <vector>

namespace qp::build {

// Calls body(0) … body(count − 1) on up to `jobs` threads (0: one per processor). If rounds throw,
// the exception of the lowest number is thrown when all threads have ended, so the outcome does not
// depend on timing; rounds with higher numbers may not have been started.
template <class F>
void for_each_parallel(size_t count, int jobs, const F& body) {
  size_t threads = jobs > 0 ? static_cast<size_t>(jobs)
                            : std::max<size_t>(1, std::thread::hardware_concurrency());
  std::vector<std::exception_ptr> failures(count);
  std::atomic<size_t> next{0};
  std::atomic<bool> failed{false};
  auto work = [&] {
    for (size_t i = next++; i < count && !failed; i = next++) {
      try {
        body(i);
      } catch (...) {
        failures[i] = std::current_exception();
        failed = true;
      }
    }
  };
  {
    std::vector<std::jthread> helpers;
    for (size_t i = 1; i < std::min(threads, count); ++i) {
      helpers.emplace_back(work);
    }
    work();
  }
  for (const std::exception_ptr& failure : failures) {
    if (failure) {
      std::rethrow_exception(failure);
    }
  }
}

}  // namespace qp::build
