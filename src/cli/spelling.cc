// Edit distance (insert, delete, replace) with one row of the table at a time.

#include "cli/spelling.h"

#include <algorithm>
#include <numeric>

namespace qp::cli {
namespace {

size_t distance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      size_t above = row[j];
      size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({above + 1, row[j - 1] + 1, replaced});
      diagonal = above;
    }
  }
  return row.back();
}

}  // namespace

std::optional<std::string> nearest(const std::string& word, const std::vector<std::string>& known) {
  std::optional<std::string> best;
  size_t allowed = std::max<size_t>(2, word.size() / 3);
  for (const std::string& k : known) {
    if (size_t d = distance(word, k); d <= allowed) {
      best = k;
      allowed = d == 0 ? 0 : d - 1;
    }
  }
  return best;
}

}  // namespace qp::cli
