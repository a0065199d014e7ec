#include "pair.h"

#include <algorithm>

#include "base/error.h"

namespace qp::pairs {

bool has_flag(const Compiler& c, const std::string& flag) {
  return std::find(c.flags.begin(), c.flags.end(), flag) != c.flags.end();
}
bool executable_only(const Compiler& c) {
  return !has_flag(c, "-fPIC");
}
bool gcc_only(const Compiler& c) {
  return c.name == "gcc-12";
}

std::string replaced(std::string text, const std::string& what, const std::string& with) {
  size_t at = text.find(what);
  QP_ASSERT(at != std::string::npos);
  return text.replace(at, what.size(), with);
}

Pair edit(std::string name, const std::string& source, const std::string& what,
          const std::string& with, Names changed) {
  return {std::move(name), source, replaced(source, what, with), std::move(changed)};
}
Pair refusal(std::string name, const std::string& source, const std::string& what,
             const std::string& with, Names changed, Names refused) {
  Pair p = edit(std::move(name), source, what, with, std::move(changed));
  p.refused = std::move(refused);
  return p;
}

}  // namespace qp::pairs
