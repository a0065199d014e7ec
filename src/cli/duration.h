// Durations on the command line and in output.
#pragma once

#include <chrono>
#include <string>

namespace qp::cli {

// "500ms", "2s", "10m". Throws CLI::ValidationError for anything else.
std::chrono::milliseconds parse_duration(const std::string& text);
std::string format_duration(std::chrono::nanoseconds duration);  // "0.31 ms", "1.20 s"

}  // namespace qp::cli
