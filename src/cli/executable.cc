// A process's executable is opened through proc, since its path may name another file by now.

#include "cli/executable.h"

#include <algorithm>
#include <cctype>
#include <charconv>

#include "proc/process.h"

namespace qp::cli {

std::optional<pid_t> find_pid(const std::string& text) {
  bool number =
      !text.empty() && text.size() < 10 &&
      std::all_of(text.begin(), text.end(), [](unsigned char c) { return std::isdigit(c) != 0; });
  std::error_code ignored;
  if (!number || std::filesystem::exists(text, ignored)) {
    return std::nullopt;
  }
  pid_t pid = 0;
  std::from_chars(text.data(), text.data() + text.size(), pid);
  return pid;
}

std::filesystem::path resolve_target(const std::string& text) {
  const auto pid = find_pid(text);
  return pid ? proc::executable_path(proc::Process::open(*pid)) : std::filesystem::path(text);
}

}  // namespace qp::cli
