// Why: asserts, log messages and lock locators contain __LINE__. A fix that adds one line shifts
// all lines below it, and every function below that uses such a macro would come out different: 14
// % of redis for one line (docs/objdiff.md). The numbers are of no use to the fix, so the patched
// file gets `#line N` where an unchanged line follows a change, and everything below keeps its
// number. No file name is given: the presumed name stays, also in a header.
//
// What makes it less than trivial:
//   - a directive can't stand everywhere: source_lines.h says where it can;
//   - in a branch of #if that is not taken, #line does nothing. So the shift behind #endif depends
//     on the branch. We follow all branches at once: the state is the *set* of shifts that are
//     possible here, and a line is numbered right only if the set holds just the right one;
//   - the file may have #line directives of its own (bison, flex): then "the number" of a line is
//     the presumed one, computed with the same machinery for the original.

#include "build/line_directives.h"

#include <cstdint>
#include <set>
#include <vector>

#include <fmt/format.h>

#include "build/line_diff.h"
#include "build/source_lines.h"

namespace qp::build {
namespace {

// The possible values of (presumed number − physical number), followed through #if branches.
class Shifts {
 public:
  const std::set<int64_t>& possible() const { return now_; }
  void set(int64_t shift) { now_ = {shift}; }

  // `physical`: number of the line that holds the directive, from 1.
  void follow(const SourceLine& line, int64_t physical) {
    switch (line.directive) {
      case Directive::Line:
        set(static_cast<int64_t>(line.number) - (physical + 1));
        break;
      case Directive::If:
        open_.push_back({now_, {}, false});
        break;
      case Directive::Elif:
      case Directive::Else:
        if (!open_.empty()) {
          open_.back().ended.insert(now_.begin(), now_.end());
          open_.back().has_else |= line.directive == Directive::Else;
          now_ = open_.back().before;
        }
        break;
      case Directive::Endif:
        if (!open_.empty()) {
          Branches& b = open_.back();
          now_.insert(b.ended.begin(), b.ended.end());
          if (!b.has_else) {
            now_.insert(b.before.begin(), b.before.end());
          }
          open_.pop_back();
        }
        break;
      case Directive::None:
      case Directive::Include:
      case Directive::Other:
        break;
    }
  }

 private:
  struct Branches {
    std::set<int64_t> before, ended;
    bool has_else;
  };
  std::set<int64_t> now_{0};
  std::vector<Branches> open_;
};

// Its number is seen by nobody, and the lines behind it are better served by a #line of their own.
bool ends_branch(const SourceLine& line) {
  return line.directive == Directive::Elif || line.directive == Directive::Else ||
         line.directive == Directive::Endif;
}

}  // namespace

std::vector<int64_t> presumed_numbers(const std::vector<std::string_view>& lines) {
  std::vector<int64_t> out;
  Shifts shifts;
  int64_t physical = 0;
  for (const SourceLine& line : scan_source(lines)) {
    ++physical;
    out.push_back(shifts.possible().size() == 1 ? physical + *shifts.possible().begin() : 0);
    shifts.follow(line, physical);
  }
  return out;
}

std::string keep_line_numbers(std::string_view original, std::string_view patched) {
  std::vector<std::string_view> old_lines = split_lines(original), lines = split_lines(patched);
  std::vector<int64_t> numbers = presumed_numbers(old_lines);
  std::vector<SourceLine> scanned = scan_source(lines);
  std::vector<std::optional<size_t>> old_of = match_lines(old_lines, lines);
  std::string out;
  out.reserve(patched.size() + 256);
  Shifts shifts;
  int64_t physical = 1;
  for (size_t i = 0; i < lines.size(); ++i) {
    if (old_of[i] && scanned[i].safe_before && !scanned[i].blank && !ends_branch(scanned[i])) {
      int64_t wanted = numbers[*old_of[i]];
      // Behind an inserted directive the line is one further down.
      if (wanted > 0 && shifts.possible() != std::set<int64_t>{wanted - physical}) {
        out += fmt::format("#line {}\n", wanted);
        ++physical;
        shifts.set(wanted - physical);
      }
    }
    out += lines[i];
    // A file that does not end with a newline stays so.
    if (i + 1 < lines.size() || patched.ends_with('\n')) {
      out += '\n';
    }
    shifts.follow(scanned[i], physical);
    ++physical;
  }
  return out;
}

}  // namespace qp::build
