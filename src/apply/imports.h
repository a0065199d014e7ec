// Symbols of other modules, found as ld.so would find them.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/address.h"
#include "base/report.h"
#include "elf/atom.h"
#include "elf/binding.h"
#include "proc/process.h"

namespace qp::apply {

class ImportResolver {
 public:
  // `target` is one of `modules`. Reads the process's link map for the order of search.
  ImportResolver(const proc::Process& process, const std::vector<proc::Module>& modules,
                 const proc::Module& target);

  // Address of `symbol` in the process; 0 for a weak symbol that nobody defines. Findings:
  // import-missing, import-ifunc, tls-unsupported; then nullopt.
  std::optional<LiveAddr> resolve(const elf::AtomSymbol& symbol, const elf::Binding& binding,
                                  Report& report) const;

 private:
  std::optional<LiveAddr> from_slot(LiveAddr slot, const proc::Module& owner) const;
  std::optional<LiveAddr> from_any_slot(const std::string& name, const proc::Module& definer) const;
  std::optional<LiveAddr> from_own_slot(LinkAddr resolver, const proc::Module& definer) const;

  const proc::Process& process_;
  const proc::Module& target_;
  std::vector<const proc::Module*> scope_;  // in order of search
};

}  // namespace qp::apply
