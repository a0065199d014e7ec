// Which files a unified diff is about. Applying it is left to `patch`.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace qp::build {

struct DiffedFile {
  std::string old_name, new_name;  // as written; "" for /dev/null
  bool creates = false;            // no original lines: "@@ -0,0 …"
  bool deletes = false;            // no patched lines: "@@ … +0,0"
};

// Throws Error{bad-file} for what is no unified diff, Error{patch-unsupported} for renames, binary
// changes and names that leave the source tree.
std::vector<DiffedFile> parse_unified_diff(std::string_view text, const std::string& name);

// `name` without its first `count` components; "" if it has no more than these.
std::string strip_components(std::string_view name, int count);

}  // namespace qp::build
