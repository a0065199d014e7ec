// How a diff is told.
#pragma once

#include <nlohmann/json.hpp>

#include "objdiff/diff.h"

namespace qp::cli {

// stdout. Unchanged units are left out; `full` also tells what goes into a patch and what is bound.
void print_diff(const objdiff::Diff& diff, bool full);
nlohmann::json diff_json(const objdiff::Diff& diff);

}  // namespace qp::cli
