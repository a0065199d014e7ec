// Patches that make room for the one that is planned, in the same transaction.
#pragma once

#include <string>
#include <vector>

#include "apply/registries.h"
#include "apply/switch.h"
#include "base/memory_reader.h"
#include "base/report.h"
#include "proc/process.h"

namespace qp::apply {

class Superseded {
 public:
  Superseded() = default;
  // Those of `ids` that are applied, all their images. Finding: registry-damaged.
  Superseded(const proc::Process& process, const std::vector<proc::Module>& modules,
             const std::vector<FoundRegistry>& registries, const std::vector<std::string>& ids,
             Report& report);

  bool empty() const { return registries_.empty(); }
  bool has(const FoundRegistry& found) const { return is_one_of(registries_, found); }
  const std::vector<FoundRegistry>& registries() const { return registries_; }
  // What they brought for the target that is mapped there.
  std::vector<RegistryVariable> variables(const proc::Module& module) const;
  // Their functions to which the program may have pointers, those of their predecessors whose image was
  // kept, and those from which they have led on themselves.
  // Finding: symbol-ambiguous, where one of the patches has two of one name.
  std::vector<RegistryFunction> functions(const proc::Module& module, Report& report) const;
  // The bytes that they wrote over, as changes that bring these back.
  std::vector<ChangedMemory::Change> originals() const;
  // What they wrote, from an island to the jump to it.
  std::vector<CodeWrite> writes() const;

 private:
  std::vector<FoundRegistry> registries_, kept_;
};

// What brings the detours of a registry: from an island to the jump to it.
std::vector<CodeWrite> writes_of(const Registry& registry);

// One set of detours takes the place of another: from what is there with `before` to what is there
// with `after` (in both, `expected` are the bytes of the file). Where two overlap, which only those of
// one function may, one write does both, so that every jump leads to whole code at every moment.
std::vector<CodeWrite> exchange(const std::vector<CodeWrite>& before,
                                const std::vector<CodeWrite>& after);
// The way back.
std::vector<CodeWrite> backwards(const std::vector<CodeWrite>& writes);

// The functions that patches of `before` replace and those of `after` do not: where `after` has taken the
// place of `before` they run as they were before either, and nobody may be inside when `before` comes back.
std::vector<NamedCode> code_laid_bare(const std::vector<const Registry*>& before,
                                      const std::vector<const Registry*>& after);

}  // namespace qp::apply
