// What compilers do to names.
//
// GCC appends a number to whatever could clash: static locals (aaa.1593), clones (f.constprop.0),
// its own constants (CSWTCH.13, C.0.1). The numbers count through the unit, so adding one function
// changes many of them. Two objects can only be compared by the part before them, and whatever
// shares that part has to be told apart by something better: by who uses it. clang writes f.aaa for
// the static local aaa of f, and numbers only the second one.

#include "objdiff/names.h"

#include <array>

namespace qp::objdiff {

std::string stem(std::string_view name) {
  std::string out;
  size_t at = 0;
  while (at < name.size()) {
    size_t dot = name.find('.', at + (at == 0 ? 0 : 1));
    if (dot == 0) {
      dot = name.find('.', 1);
    }
    std::string_view part = name.substr(at, dot == std::string_view::npos ? dot : dot - at);
    bool number = part.size() > 1 && part[0] == '.' &&
                  part.find_first_not_of("0123456789", 1) == std::string_view::npos;
    if (!number) {
      out += part;
    }
    if (dot == std::string_view::npos) {
      break;
    }
    at = dot;
  }
  return out;
}

bool is_generated_name(std::string_view name) {
  static constexpr std::array<std::string_view, 6> stems = {
      "CSWTCH", "C", "__func__", "__FUNCTION__", "__PRETTY_FUNCTION__", "__compound_literal"};
  static constexpr std::array<std::string_view, 4> prefixes = {"switch.table.", "reltable.",
                                                               "__const.", ".compoundliteral"};
  for (std::string_view prefix : prefixes) {
    if (name.starts_with(prefix)) {
      return true;
    }
  }
  size_t dot = name.find('.');
  if (dot == std::string_view::npos || name.find_first_not_of("0123456789.", dot) != name.npos) {
    return false;
  }
  for (std::string_view s : stems) {
    if (name.substr(0, dot) == s) {
      return true;
    }
  }
  return false;
}

}  // namespace qp::objdiff
