// Instructions that a process has anyway, found by their bytes.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "proc/process.h"

namespace qp::proc {

// The first place in `range` that holds `pattern`; nullopt also where memory can't be read.
std::optional<LiveAddr> find_code(const Memory& memory, LiveRange range,
                                  std::span<const uint8_t> pattern);

}  // namespace qp::proc
