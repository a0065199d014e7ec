// --consistency, as commands take it.
#pragma once

#include <string>

#include <CLI/CLI.hpp>

#include "apply/apply.h"

namespace qp::cli {

// Adds the option; its value ends in `out` when the command line is parsed.
void add_consistency(CLI::App& app, apply::Consistency& out);

}  // namespace qp::cli
