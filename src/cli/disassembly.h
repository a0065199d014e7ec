// Old and new code side by side.
#pragma once

#include "format/patch.h"

namespace qp::cli {

void print_disassembly(const format::Patch& patch);  // stdout

}  // namespace qp::cli
