// --target and TARGET take a file or a PID.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include <sys/types.h>

namespace qp::cli {

// The PID, if `text` is a number and no such file exists.
std::optional<pid_t> find_pid(const std::string& text);

// The file itself, or the executable of the process if `text` is a number and no such file exists.
// Throws Error{no-process}, Error{system}.
std::filesystem::path resolve_target(const std::string& text);

}  // namespace qp::cli
