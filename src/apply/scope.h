// Which modules ld.so searches for the symbols of one module, and in which order.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/address.h"
#include "elf/file.h"
#include "proc/process.h"

namespace qp::apply {

struct Definition {
  const proc::Module* module = nullptr;
  LiveAddr address;
  elf::SymbolType type = elf::SymbolType::NoType;
  elf::SymbolBind bind = elf::SymbolBind::Global;
  LinkAddr value;
};

// What `module` gives to a search for this name: a definition, or the PLT entry that stands for a
// function's address in an executable. `version`: "" takes the default version.
std::optional<Definition> find_definition(const proc::Module& module, const std::string& name,
                                          const std::string& version);

// Where ld.so's record of the module is (struct link_map); `module` is one of `modules`.
std::optional<LiveAddr> find_link_map(const proc::Process& process,
                                      const std::vector<proc::Module>& modules,
                                      const proc::Module& module);

class Scope {
 public:
  // `target` is one of `modules`, which outlives the scope. Reads the process's link map.
  Scope(const proc::Process& process, const std::vector<proc::Module>& modules,
        const proc::Module& target);

  // In link-map order: everything that can have been in use when the target was relocated.
  const std::vector<const proc::Module*>& all() const { return all_; }
  bool has_target() const;  // false: it was loaded by other means, or into another namespace

  // Whether a symbol of the target is looked for in this module, however it was opened.
  bool searches(const proc::Module& module) const;

  struct Found {
    std::optional<Definition> first;
    std::string doubt;  // not empty: what the order of search can't be told from outside for
  };
  // The first definition, as ld.so would find it for the target.
  Found find(const std::string& name, const std::string& version) const;
  // Was loaded because the program or a library of it needs it, not by dlopen().
  bool is_of_start(const proc::Module& module) const;

 private:
  const proc::Module* target_;
  bool library_ = false;
  std::vector<const proc::Module*> all_;     // the link map
  std::vector<const proc::Module*> global_;  // of it: loaded when the program started
  std::vector<const proc::Module*> own_;     // of a dlopened target: itself and what it needs
};

}  // namespace qp::apply
