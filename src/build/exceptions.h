// Targets in which an exception can reach new code.
#pragma once

#include <optional>
#include <string>

#include "build/target.h"
#include "format/patch.h"

namespace qp::build {

// What shows that code of the target, or the patch's new code, can throw, catch, or be passed by an
// exception of C++. Nullopt: nothing does.
std::optional<std::string> find_exceptions(const TargetFile& target, const format::Patch& patch);

}  // namespace qp::build
