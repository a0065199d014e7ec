// What compilers do to names.
//
// GCC appends a number to whatever could clash: static locals (aaa.1593), clones (f.constprop.0),
// its own constants (CSWTCH.13, C.0.1). The numbers count through the unit, so adding one function
// changes many of them. Two objects can only be compared by the part before them, and whatever
// shares that part has to be told apart by something better: by who uses it. clang writes f.aaa for
// the static local aaa of f, and numbers only the second one.
//
// C++ counts inside names: the second `static int n` of f(int) is _ZZ1fiE1n_0, its second lambda
// _ZZ1fiENKUliE0_clEi for GCC and _ZZ1fiENK3$_1clEi for clang (Itanium C++ ABI 5.1.6 and 5.1.8,
// discriminators and closure types). The first one has no number, or the lowest, and has to be
// taken for one of the counted too: if the patch adds another before it, it gets its name.

#include "objdiff/names.h"

#include <algorithm>
#include <array>
#include <utility>

namespace qp::objdiff {
namespace {

constexpr std::string_view kDigits = "0123456789";

// The number at `at`, at most one more than the whole name is long; and where it ends.
std::pair<size_t, size_t> read_length(std::string_view name, size_t at) {
  size_t length = 0;
  for (; at < name.size() && kDigits.find(name[at]) != std::string_view::npos; ++at) {
    length = std::min(length * 10 + static_cast<size_t>(name[at] - '0'), name.size() + 1);
  }
  return {length, at};
}

// Whether `name` ends in E<length><identifier>, which the identifier fills.
bool ends_in_identifier(std::string_view name) {
  for (size_t e = name.find('E'); e != std::string_view::npos; e = name.find('E', e + 1)) {
    auto [length, at] = read_length(name, e + 1);
    if (at > e + 1 && at + length == name.size()) {
      return true;
    }
  }
  return false;
}

// _ZZ1fiE1n_0 → _ZZ1fiE1n, _ZZ1fiE1n__12_ → _ZZ1fiE1n.
std::string_view without_discriminator(std::string_view name) {
  if (ends_in_identifier(name)) {
    return name;
  }
  size_t end = name.back() == '_' ? name.size() - 1 : name.size();
  size_t at = end;
  while (at > 0 && kDigits.find(name[at - 1]) != std::string_view::npos) {
    --at;
  }
  size_t bars = end == name.size() ? 1 : 2;
  bool found =
      at < end && at > bars && name.substr(at - bars, bars) == std::string_view("__", bars);
  return found ? name.substr(0, at - bars) : name;
}

// UliE0_ → UliE_, Ut3_ → Ut_, 3$_1 → $_.
std::string without_closure_numbers(std::string_view name) {
  std::string out;
  for (size_t at = 0; at < name.size();) {
    std::string_view before = name.substr(0, at);
    bool closure = before.ends_with('E') && before.find("Ul") != std::string_view::npos;
    bool counted = closure || before.ends_with("Ut");
    auto [length, end] = read_length(name, at);
    if (counted && end > at && end < name.size() && name[end] == '_') {
      at = end;  // the number only
    } else if (end > at && name.substr(end).starts_with("$_")) {
      out += "$_";
      at = std::min(end + std::max<size_t>(length, 2), name.size());
    } else if (end > at) {
      out += name.substr(at, end - at);
      at = end;
    } else {
      out += name[at++];
    }
  }
  return out;
}

// aaa.1593 → aaa, f.constprop.0 → f.constprop. Link-time optimisation adds .lto_priv.0 to a name that
// another unit has as well; whether one has, the edit may have changed.
std::string without_appended_numbers(std::string_view name) {
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
    if (!number && part != ".lto_priv") {
      out += part;
    }
    if (dot == std::string_view::npos) {
      break;
    }
    at = dot;
  }
  return out;
}

}  // namespace

bool is_counted(std::string_view name) {
  bool local = name.starts_with("_ZZ") || name.starts_with("_ZGVZ");
  bool closure = name.starts_with("_Z") &&
                 (name.find("Ul") != std::string_view::npos ||
                  name.find("Ut") != std::string_view::npos || name.find("$_") != name.npos);
  return local || closure || name.find('.') != std::string_view::npos;
}

std::string stem(std::string_view full) {
  std::string inside;
  std::string_view name = full;
  if (full.starts_with("_Z") && is_counted(full.substr(0, full.find('.')))) {
    size_t dot = std::min(full.find('.'), full.size());
    bool local = full.starts_with("_ZZ") || full.starts_with("_ZGVZ");
    std::string_view mangled = full.substr(0, dot);
    inside = without_closure_numbers(local ? without_discriminator(mangled) : mangled);
    inside += full.substr(dot);
    name = inside;
  }
  return without_appended_numbers(name);
}

bool is_generated_name(std::string_view name) {
  static constexpr std::array<std::string_view, 6> stems = {
      "CSWTCH", "C", "__func__", "__FUNCTION__", "__PRETTY_FUNCTION__", "__compound_literal"};
  static constexpr std::array<std::string_view, 5> prefixes = {
      "switch.table.", "reltable.", "GCC_except_table", "__const.", ".compoundliteral"};
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
