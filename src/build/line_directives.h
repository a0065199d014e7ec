// Keeps __LINE__ as it was: #line after every change of the number of lines.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace qp::build {

// `patched` with `#line N` lines inserted, so that the unchanged lines behind a change have the
// numbers (as __LINE__ shows them) that they have in `original`, from the first safe place on.
std::string keep_line_numbers(std::string_view original, std::string_view patched);

// What __LINE__ shows on each line of a text; 0 where it depends on the branches of #if that are
// taken. For lines without their newlines, as split_lines() gives them.
std::vector<int64_t> presumed_numbers(const std::vector<std::string_view>& lines);

}  // namespace qp::build
