// "Did you mean": the nearest known word.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace qp::cli {

// The known word with the smallest edit distance, if that is at most a third of the word's length
// (at least 2, since swapped letters count twice).
std::optional<std::string> nearest(const std::string& word, const std::vector<std::string>& known);

}  // namespace qp::cli
