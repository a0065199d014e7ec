// --hook-timeout, as commands take it.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include <CLI/CLI.hpp>

namespace qp::cli {

void add_hook_timeout(CLI::App& app, std::string& out);
// Nullopt if it was not given. Throws CLI::ValidationError.
std::optional<std::chrono::milliseconds> parse_hook_timeout(const std::string& text);

}  // namespace qp::cli
