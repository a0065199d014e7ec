// A running victim: a small program that is patched while it works.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <optional>
#include <string>

namespace qp::live {

// The protocol: the victim prints `ready`; then for each line on stdin it prints one line; at the
// end of stdin it exits with 0. The victim dies with the test.
class Victim {
 public:
  // Returns when it said `ready`. Throws std::runtime_error if it does not.
  explicit Victim(const std::filesystem::path& program,
                  const std::optional<std::string>& argument = std::nullopt);
  Victim(const Victim&) = delete;
  Victim& operator=(const Victim&) = delete;
  ~Victim();  // kills it, if finish() was not called

  pid_t pid() const { return pid_; }
  // Sends a line and returns the answer's line. Throws std::runtime_error on EOF or silence.
  std::string ask(const std::string& request);
  void tell(const std::string& request);  // without waiting for an answer
  std::string hear();                     // the next line
  int finish();                           // end of stdin; its exit code (128 + signal)

 private:
  pid_t pid_ = -1;
  int to_ = -1, from_ = -1;
  std::string pending_;
};

}  // namespace qp::live
