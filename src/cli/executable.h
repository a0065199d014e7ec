// --target and TARGET take a file or a PID.
#pragma once

#include <filesystem>
#include <string>

namespace qp::cli {

// The file itself, or the executable of the process if `text` is a number and no such file exists.
// Throws Error{no-process}, Error{system}.
std::filesystem::path resolve_target(const std::string& text);

}  // namespace qp::cli
