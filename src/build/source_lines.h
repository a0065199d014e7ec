// C and C++ source seen line by line: where a preprocessor directive may be put.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace qp::build {

enum class Directive : uint8_t { None, If, Elif, Else, Endif, Line, Include, Other };

struct SourceLine {
  // A directive may stand on a line of its own in front of this one: no comment, string, macro
  // argument list, directive or spliced line is open here.
  bool safe_before = false;
  Directive directive = Directive::None;  // of a directive that begins on this line
  uint64_t number = 0;                    // Directive::Line: the number that the next line gets
  std::string argument;                   // Directive::Include: the rest of it, comments removed
  bool blank = false;                     // white space only
};

// `lines` without their newlines, as split_lines() gives them.
std::vector<SourceLine> scan_source(const std::vector<std::string_view>& lines);

// The tokens of a preprocessed text with one space between those that were apart; literals as they
// are. Two texts that a compiler reads alike (but for line numbers) give the same. Linemarkers are
// dropped, other directives (#pragma) are kept.
std::string normalise_preprocessed(std::string_view text);

}  // namespace qp::build
