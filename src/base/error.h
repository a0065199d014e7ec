// Failures, findings' cousins: something that could not be done (a bad file, the kernel said no).
// Findings ("this patch can't …") are data, see report.h. Races and absences are return values.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace qp {

// Exit codes of the command line; scripts rely on the numbers (docs/cli.md).
enum class ExitCode : int {
  Done = 0,
  Failure = 1,
  Usage = 2,
  NoMatch = 3,
  Busy = 4,
  Mixed = 5,
  Trust = 6,
  Permission = 7,
  NoChange = 8,
  NeedsRecover = 9,
};

// `code` is a stable id like "bad-file" or "compile-failed" that `qpatch explain` knows.
class Error : public std::runtime_error {
 public:
  Error(std::string code, std::string tried, std::string on, std::string said,
        ExitCode exit_code = ExitCode::Failure);
  const std::string& code() const { return code_; }
  const std::string& tried() const { return tried_; }
  const std::string& on() const { return on_; }
  const std::string& said() const { return said_; }
  ExitCode exit_code() const { return exit_code_; }

 private:
  std::string code_, tried_, on_, said_;
  ExitCode exit_code_;
};

// From errno; EPERM and EACCES get ExitCode::Permission. Code "system".
Error system_error(std::string tried, std::string on, int error_number);
// Code "bad-file": `where` in the file and what is wrong there.
Error bad_file(std::string_view file, std::string_view what);

// A bug of ours. Thrown, not aborted, so that unwinding thaws the process; on in every build.
class Bug : public std::logic_error {
  using std::logic_error::logic_error;
};
[[noreturn]] void assertion_failed(const char* condition, const char* file, int line,
                                   const char* function);
#define QP_ASSERT(condition)          \
  ((condition) ? static_cast<void>(0) \
               : ::qp::assertion_failed(#condition, __FILE__, __LINE__, __func__))

}  // namespace qp
