// Patches are named by any unique prefix of their id, or by a CVE id.
#pragma once

#include <string>
#include <vector>

#include "apply/apply.h"

namespace qp::cli {

// The full id of the one patch among `applied` that `name` names. Throws Refused{not-applied} if
// there is none, Error{usage} if there are several.
std::string find_patch_id(const std::vector<apply::Applied>& applied, const std::string& name);

}  // namespace qp::cli
