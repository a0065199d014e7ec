// Failures as exceptions: what was tried, on what, what was said.

#include "base/error.h"

#include <cerrno>
#include <system_error>

#include <fmt/format.h>

namespace qp {

Error::Error(std::string code, std::string tried, std::string on, std::string said,
             ExitCode exit_code)
    : std::runtime_error(on.empty() ? fmt::format("{}: {}", tried, said)
                                    : fmt::format("{} {}: {}", tried, on, said)),
      code_(std::move(code)),
      tried_(std::move(tried)),
      on_(std::move(on)),
      said_(std::move(said)),
      exit_code_(exit_code) {}

Error system_error(std::string tried, std::string on, int error_number) {
  bool permission = error_number == EPERM || error_number == EACCES;
  return Error("system", std::move(tried), std::move(on),
               std::generic_category().message(error_number),
               permission ? ExitCode::Permission : ExitCode::Failure);
}

Error bad_file(std::string_view file, std::string_view what) {
  return Error("bad-file", "can't read", std::string(file), std::string(what));
}

void assertion_failed(const char* condition, const char* file, int line, const char* function) {
  throw Bug(
      fmt::format("internal error: {} is false at {}:{} ({})", condition, file, line, function));
}

}  // namespace qp
