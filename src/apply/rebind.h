// A patch that was made for one build of a target, tied to another build of it.
#pragma once

#include <optional>

#include "base/report.h"
#include "format/patch.h"
#include "match/proof.h"

namespace qp::apply {

// Proves everything that the patch replaces, and the functions that call it, in `target`, and finds
// there what the new code refers to. The patch as it would be if it had been built for a target with
// this build-id. Nullopt with findings (code-differs with the first difference, symbol-missing,
// and match's others) if anything is not proven or not found; hook-invalid for a patch of hooks alone.
std::optional<format::Patch> rebind(const format::Patch& patch, const match::Target& target,
                                    const std::string& build_id, Report& report);

}  // namespace qp::apply
