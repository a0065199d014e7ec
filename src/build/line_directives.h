// Keeps __LINE__ as it was: #line after every change of the number of lines.
#pragma once

#include <string>
#include <string_view>

namespace qp::build {

// `patched` with `#line N` lines inserted, so that the unchanged lines behind a change have the
// numbers (as __LINE__ shows them) that they have in `original`, from the first safe place on.
std::string keep_line_numbers(std::string_view original, std::string_view patched);

}  // namespace qp::build
