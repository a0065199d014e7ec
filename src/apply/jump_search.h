// Looks for jumps of ours where no registry tells of them: a process can clear its registries.
#pragma once

#include <optional>

#include "base/address.h"
#include "proc/process.h"

namespace qp::apply {

// A jump as link/detour.cc makes them, with a target in `image`, anywhere in the code of a module, that
// its file does not have. Throws Refused{registry-damaged} where there is too much code.
std::optional<LiveAddr> find_jump_into(const proc::Process& process, LiveRange image);

}  // namespace qp::apply
