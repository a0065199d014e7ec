#include "cli/hook_timeout.h"

#include "cli/duration.h"

namespace qp::cli {

void add_hook_timeout(CLI::App& app, std::string& out) {
  app.add_option(
      "--hook-timeout", out,
      "How long a hook of the patch may take (1s while all threads stand still, else 10s)");
}

std::optional<std::chrono::milliseconds> parse_hook_timeout(const std::string& text) {
  return text.empty() ? std::nullopt : std::optional(parse_duration(text));
}

}  // namespace qp::cli
