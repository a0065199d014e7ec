// A patch whose image may lie anywhere, because nothing near its target is free.
#pragma once

#include "base/report.h"
#include "format/patch.h"

namespace qp::link {

// The same patch, but no code of it needs the target within 2 GiB: what it refers to is reached through
// words of the image that hold the addresses. Atoms and symbols are added behind those of `patch`, which
// keep their numbers. Findings: no-room, with the function and what it refers to; then the result is not
// to be used. A reference that link refuses anyway is left to it.
format::Patch make_far(const format::Patch& patch, Report& report);

}  // namespace qp::link
