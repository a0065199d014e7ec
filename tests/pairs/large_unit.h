// A unit of any size, for scale tests and benchmarks.
#pragma once

#include <string>

namespace qp::pairs {

// Assembly of that many functions f0, f1, …, each with what real ones have: a string, a static
// local, a shared table, calls, branches, unwind entries.
std::string large_unit(int functions);

}  // namespace qp::pairs
