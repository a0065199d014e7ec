// The shortest edit script between two texts, by lines.
//
// E. Myers, "An O(ND) Difference Algorithm and Its Variations" (1986): walk the grid of both texts
// along diagonals, D edits at a time, keeping for each diagonal the furthest point that D edits
// reach; then go back along the kept rows. Equal heads and tails are cut off first, so the work is
// that of the part between the first and the last change. The hunks of the diff are not used for
// this: they may apply at an offset, and several diffs may touch one file.
//
// The kept rows take D² words. A fix has a few edits, a release some hundreds; texts with more than
// kMaxEdits are treated as if nothing between their equal ends matched. That costs precision (more
// lines keep no number), never correctness.

#include "build/line_diff.h"

#include <algorithm>
#include <cstdint>
#include <unordered_map>

namespace qp::build {
namespace {

constexpr int kMaxEdits = 4000;

using Ids = std::vector<uint32_t>;

// Calls `same(original, patched)` for each pair of matching lines of the middles a and b.
template <class F>
void walk(const Ids& a, const Ids& b, F same) {
  const int n = static_cast<int>(a.size()), m = static_cast<int>(b.size());
  const int limit = std::min(n + m, kMaxEdits);
  // rows[d][k + d]: furthest x on diagonal k = x − y with d edits.
  std::vector<std::vector<int>> rows;
  int found = -1;
  for (int d = 0; d <= limit && found < 0; ++d) {
    std::vector<int> row(static_cast<size_t>(2 * d + 1), 0);
    for (int k = -d; k <= d; k += 2) {
      auto before = [&](int diagonal) {
        return rows[static_cast<size_t>(d - 1)][static_cast<size_t>(diagonal + d - 1)];
      };
      int x = 0;
      if (d > 0) {
        bool down = k == -d || (k != d && before(k - 1) < before(k + 1));
        x = down ? before(k + 1) : before(k - 1) + 1;
      }
      int y = x - k;
      while (x < n && y < m && a[static_cast<size_t>(x)] == b[static_cast<size_t>(y)]) {
        ++x;
        ++y;
      }
      const int diagonal = k + d;
      row[static_cast<size_t>(diagonal)] = x;
      if (x >= n && y >= m) {
        found = d;
        break;
      }
    }
    rows.push_back(std::move(row));
  }
  if (found < 0) {
    return;
  }
  int x = n, y = m;
  for (int d = found; d >= 0; --d) {
    int k = x - y, from_x = 0, from_y = 0;
    if (d > 0) {
      const std::vector<int>& row = rows[static_cast<size_t>(d - 1)];
      auto before = [&](int diagonal) { return row[static_cast<size_t>(diagonal + d - 1)]; };
      bool down = k == -d || (k != d && before(k - 1) < before(k + 1));
      int previous = down ? k + 1 : k - 1;
      from_x = before(previous);
      from_y = from_x - previous;
    }
    int after_x = d == 0 ? 0 : (k > from_x - from_y ? from_x + 1 : from_x);
    while (x > after_x && y > after_x - k) {
      same(static_cast<size_t>(--x), static_cast<size_t>(--y));
    }
    x = from_x;
    y = from_y;
  }
}

}  // namespace

std::vector<std::string_view> split_lines(std::string_view text) {
  std::vector<std::string_view> out;
  while (!text.empty()) {
    size_t end = text.find('\n');
    if (end == std::string_view::npos) {
      out.push_back(text);
      break;
    }
    out.push_back(text.substr(0, end));
    text.remove_prefix(end + 1);
  }
  return out;
}

std::vector<std::optional<size_t>> match_lines(const std::vector<std::string_view>& original,
                                               const std::vector<std::string_view>& patched) {
  std::unordered_map<std::string_view, uint32_t> known;
  auto ids = [&](const std::vector<std::string_view>& lines) {
    Ids out;
    out.reserve(lines.size());
    for (std::string_view line : lines) {
      out.push_back(known.try_emplace(line, static_cast<uint32_t>(known.size())).first->second);
    }
    return out;
  };
  Ids a = ids(original), b = ids(patched);
  std::vector<std::optional<size_t>> out(patched.size());
  size_t head = 0, tail = 0, shorter = std::min(a.size(), b.size());
  while (head < shorter && a[head] == b[head]) {
    out[head] = head;
    ++head;
  }
  while (tail < shorter - head && a[a.size() - 1 - tail] == b[b.size() - 1 - tail]) {
    ++tail;
    out[b.size() - tail] = a.size() - tail;
  }
  auto middle = [&](const Ids& all) {
    return Ids(all.begin() + static_cast<ptrdiff_t>(head),
               all.end() - static_cast<ptrdiff_t>(tail));
  };
  walk(middle(a), middle(b), [&](size_t x, size_t y) { out[head + y] = head + x; });
  return out;
}

}  // namespace qp::build
