// The text of /proc/PID/maps as values.
#pragma once

#include <string_view>
#include <vector>

#include "proc/process.h"

namespace qp::proc {

// Throws Error{bad-file} for a line that is not one. Names stay as the kernel writes them: a
// newline in a path is "\012".
std::vector<Mapping> parse_maps(std::string_view text);

}  // namespace qp::proc
