// Functions in the text of a C file in GNU style, found without parsing C.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace qp::scale {

struct SourceFunction {
  std::string name;
  size_t brace = 0;  // offset of the "{" that opens the body
};

// Definitions whose name begins a line and whose body is opened by a line "{". Some may be under an
// #if that is not taken.
std::vector<SourceFunction> find_functions(std::string_view text);

}  // namespace qp::scale
