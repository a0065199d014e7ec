// A number without a unit is refused: 30 of what?

#include "cli/duration.h"

#include <charconv>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

namespace qp::cli {

std::chrono::milliseconds parse_duration(const std::string& text) {
  uint64_t number = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  std::string unit(end, text.data() + text.size());
  uint64_t factor = unit == "ms" ? 1 : unit == "s" ? 1000 : unit == "m" ? 60'000 : 0;
  constexpr uint64_t kMost = uint64_t{7} * 24 * 3600 * 1000;  // a week
  if (error != std::errc() || factor == 0 || number > kMost / factor) {
    throw CLI::ValidationError(fmt::format("'{}' is not a duration; write 500ms, 2s or 10m", text));
  }
  return std::chrono::milliseconds(number * factor);
}

std::string format_duration(std::chrono::nanoseconds duration) {
  auto ms = std::chrono::duration<double, std::milli>(duration).count();
  return ms < 1000 ? fmt::format("{:.2f} ms", ms) : fmt::format("{:.2f} s", ms / 1000);
}

}  // namespace qp::cli
