// Places where tests make the transaction fail, in the program that is shipped.
#pragma once

#include <string_view>
#include <vector>

namespace qp {

// Throws Error{fault} if the environment variable QPATCH_FAULT is `name`; dies by SIGKILL if
// QPATCH_FAULT_KILL is; stops by SIGSTOP if QPATCH_FAULT_STOP is, so that a test can do something at
// that moment. Once, the first time that the point is reached; "NAME:3" means the third. Bug if the
// name is not in all_fault_points(), so that the test that goes through that list misses none.
void fault_point(std::string_view name);
const std::vector<std::string_view>& all_fault_points();

}  // namespace qp
