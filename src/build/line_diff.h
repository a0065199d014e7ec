// Which lines of a patched text are lines of the original one.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>
#include <vector>

namespace qp::build {

// Without the newlines; a text that ends with one has no empty line behind it.
std::vector<std::string_view> split_lines(std::string_view text);

// Per patched line: the index of the original line that it is. Ascending.
std::vector<std::optional<size_t>> match_lines(const std::vector<std::string_view>& original,
                                               const std::vector<std::string_view>& patched);

}  // namespace qp::build
