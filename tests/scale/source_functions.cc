#include "source_functions.h"

#include <cctype>

namespace qp::scale {
namespace {

// "name(" at the start of a line; "" if it is something else.
std::string_view declared_name(std::string_view line) {
  size_t end = 0;
  while (end < line.size() &&
         (std::isalnum(static_cast<unsigned char>(line[end])) != 0 || line[end] == '_')) {
    ++end;
  }
  bool name = end > 0 && end < line.size() && line[end] == '(' &&
              std::islower(static_cast<unsigned char>(line[0])) != 0;
  return name ? line.substr(0, end) : std::string_view();
}

}  // namespace

std::vector<SourceFunction> find_functions(std::string_view text) {
  std::vector<SourceFunction> out;
  std::string_view name;
  for (size_t at = 0; at < text.size();) {
    size_t end = std::min(text.find('\n', at), text.size());
    std::string_view line = text.substr(at, end - at);
    if (line == "{" && !name.empty()) {
      out.push_back({std::string(name), at});
      name = {};
    } else if (std::string_view found = declared_name(line); !found.empty()) {
      name = found;
    } else if (line.empty() || line.find(';') != line.npos || line.find('}') != line.npos) {
      name = {};
    }
    at = end + 1;
  }
  return out;
}

}  // namespace qp::scale
