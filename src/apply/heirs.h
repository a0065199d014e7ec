// Functions of patches that are superseded, and to which the program may have pointers.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "apply/registry.h"
#include "base/memory_reader.h"
#include "base/report.h"
#include "format/patch.h"

namespace qp::apply {

// One of them, and the function of the new patch that takes its place.
struct Heir {
  RegistryFunction before;
  elf::AtomSymbolId now = 0;  // in Patch::fresh
};
// `there`: those of the superseded patches. A warning for each that the patch does not have. Finding:
// symbol-ambiguous.
std::vector<Heir> find_heirs(const format::Patch& patch, const std::vector<RegistryFunction>& there,
                             Report& report);

// The jump from the one to the other, which is at `to`. `memory`: as it is without the superseded patches'
// writes. Nullopt with a finding: function-short, reloc-range.
std::optional<RegistryDetour> lead_on(const Heir& heir, LiveRange to, const MemoryReader& memory,
                                      LoadBias bias, Report& report);

// Those of `patch`, whose symbols are at `address`, that it hands out.
std::vector<RegistryFunction> functions_handed_out(
    const format::Patch& patch, const std::function<LiveAddr(elf::AtomSymbolId)>& address);

}  // namespace qp::apply
