// Patches are named by any unique prefix of their id, or by a CVE id.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <CLI/CLI.hpp>

#include "apply/apply.h"

namespace qp::cli {

// The full id of the one patch among `applied` that `name` names. Throws Refused{not-applied} if
// there is none, Error{usage} if there are several.
std::string find_patch_id(const std::vector<apply::Applied>& applied, const std::string& name);

bool is_patch_id(std::string_view text);

// --replace: patches that make room for the one that is applied, in the processes that have them.
void add_replace(CLI::App& app, std::vector<std::string>& out);
// Their ids in the process; none for a name that no patch of it has. Throws Error{usage} as above.
std::vector<std::string> find_replaced(pid_t pid, const std::vector<std::string>& names);

}  // namespace qp::cli
