// The commands. Each registers its options and returns what runs them; one file per command.
#pragma once

#include <functional>

#include <CLI/CLI.hpp>

#include "base/error.h"

namespace qp::cli {

struct Command {
  CLI::App* app = nullptr;
  std::function<ExitCode()> run;
};

Command add_build(CLI::App& app);
Command add_diff(CLI::App& app);
Command add_info(CLI::App& app);
Command add_check(CLI::App& app);
Command add_apply(CLI::App& app);
Command add_revert(CLI::App& app);
Command add_recover(CLI::App& app);
Command add_list(CLI::App& app);
Command add_stacks(CLI::App& app);
Command add_map(CLI::App& app);
Command add_explain(CLI::App& app);

}  // namespace qp::cli
