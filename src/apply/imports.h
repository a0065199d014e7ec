// Symbols that a patch reaches by name, found as ld.so would find them.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "apply/scope.h"
#include "base/address.h"
#include "base/report.h"
#include "elf/atom.h"
#include "elf/binding.h"
#include "format/patch.h"
#include "proc/process.h"

namespace qp::apply {

// What all parts of a patch bring into the process.
struct Peers {
  std::set<LiveAddr> replaced;  // entries of old functions
  // New globals, by name; each is as if its module had it.
  std::map<std::string, std::vector<Definition>> defined;
};

class ImportResolver {
 public:
  // `target` is one of `modules`. Reads the process's link map for the order of search. What is in
  // `peers` counts when a name is resolved.
  ImportResolver(const proc::Process& process, const std::vector<proc::Module>& modules,
                 const proc::Module& target, const Peers& peers);

  // Address of `symbol` in the process; 0 for a weak symbol that nobody defines. Findings:
  // import-missing, import-ifunc, interposed, tls-unsupported; then nullopt.
  std::optional<LiveAddr> resolve(const elf::AtomSymbol& symbol, const elf::Binding& binding,
                                  Report& report) const;

  // Of a thread-local variable. `module`: its number, 0 in a process without ld.so's numbers;
  // `offset`: in the module's block; `tp_offset`: from the thread pointer, if it has a place there in
  // every thread. Findings: the same.
  struct ThreadLocal {
    uint64_t module = 0, offset = 0;
    std::optional<uint64_t> tp_offset;
  };
  std::optional<ThreadLocal> resolve_thread_local(const elf::AtomSymbol& symbol,
                                                  const elf::Binding& binding,
                                                  Report& report) const;
  // The target's own number. Finding: tls-unsupported.
  std::optional<uint64_t> tls_module_of_target(Report& report) const;

  // Of a library: is it where ld.so looks, and what of the patch does another module define under
  // the same name? Findings: other-namespace, interposed. A replaced function that gives way to
  // another module's, which is not replaced, is a warning.
  void check_interposition(const format::Patch& patch, Report& report) const;

 private:
  // What a module of the process defines; nullopt with a finding, or without: none does.
  std::optional<Definition> find(const elf::AtomSymbol& symbol, const elf::Binding& binding,
                                 Report& report) const;
  std::optional<LiveAddr> from_slot(LinkAddr slot) const;
  std::optional<LiveAddr> from_any_slot(const std::string& name, const proc::Module& definer) const;
  std::optional<LiveAddr> from_own_slot(LinkAddr resolver, const proc::Module& definer) const;
  std::optional<LiveAddr> from_peers(const std::string& name, const std::string& version) const;
  bool is_explained(LiveAddr value, const std::string& name) const;

  const proc::Process& process_;
  const std::vector<proc::Module>& modules_;
  const proc::Module& target_;
  const Peers& peers_;
  Scope scope_;
};

}  // namespace qp::apply
