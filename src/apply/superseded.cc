// A patch that holds what an earlier one repairs, and more, takes its place: out with the old detours
// and in with the new ones while everybody stands still once, so that at no moment the program runs
// without the first repair, and a failure leaves the first patch as it was.
//
// The new patch was made against the program and not against its predecessor. So the proof looks at
// the code as it will be without that one: with the bytes under its detours, which its registry has and
// the target's file confirms.
//
// A detour of both at one entry is one write. What only the old patch replaced gets its own code back.
// An island of the old patch may serve the same function again, and no other: somebody's short jump
// would lead to a stranger's island in between, and whoever kills us then would leave it so.

#include "apply/superseded.h"

#include <algorithm>
#include <map>
#include <set>

#include <fmt/format.h>

#include "apply/undo.h"
#include "base/error.h"

namespace qp::apply {
namespace {

LiveRange range_of(const CodeWrite& write) {
  return {write.at, write.at + write.wanted.size()};
}

// `bytes` over `on`, which begins at `start` and holds all of them.
void lay_over(Bytes& on, LiveAddr start, const CodeWrite& write, const Bytes& bytes) {
  store_bytes(on, static_cast<uint64_t>(write.at - start), bytes);
}

}  // namespace

std::vector<CodeWrite> writes_of(const Registry& registry) {
  std::vector<CodeWrite> out;
  for (const RegistryDetour& d : registry.detours) {
    for (const RegistryDetour::Written& w : d.written()) {
      out.push_back({d.function, w.at, w.saved, w.jump});
    }
  }
  return out;
}

namespace {

// `ids`, and the patches that those superseded in this process, and so on.
std::set<std::string> with_predecessors(const std::vector<FoundRegistry>& registries,
                                        const std::vector<std::string>& ids) {
  std::set<std::string> out(ids.begin(), ids.end());
  for (size_t before = 0; before < out.size();) {
    before = out.size();
    for (const FoundRegistry& found : registries) {
      if (found.registry && out.contains(found.registry->patch_id)) {
        out.insert(found.registry->supersedes.begin(), found.registry->supersedes.end());
      }
    }
  }
  return out;
}

}  // namespace

Superseded::Superseded(const proc::Process& process, const std::vector<proc::Module>& modules,
                       const std::vector<FoundRegistry>& registries,
                       const std::vector<std::string>& ids, Report& report) {
  const std::set<std::string> predecessors = with_predecessors(registries, ids);
  for (const FoundRegistry& found : registries) {
    if (found.registry && found.registry->state == State::Reverted &&
        predecessors.contains(found.registry->patch_id)) {
      kept_.push_back(found);
    }
    if (!found.registry || found.registry->state != State::Applied ||
        std::find(ids.begin(), ids.end(), found.registry->patch_id) == ids.end()) {
      continue;
    }
    const Registry& r = *found.registry;
    if (auto faults = find_faults(process, find_module(modules, r), r); !faults.empty()) {
      report.refuse("registry-damaged", r.patch_id, faults.front());
    }
    for (const RegistryVariable& v : r.variables) {
      if (std::none_of(registries.begin(), registries.end(),
                       [&](const FoundRegistry& home) { return home.image.contains(v.at); })) {
        report.refuse("registry-damaged", r.patch_id,
                      fmt::format("its variable {} at {:#x} is in no image", v.name, v.at.value));
      }
    }
    registries_.push_back(found);
  }
}

std::vector<RegistryVariable> Superseded::variables(const proc::Module& module) const {
  std::vector<RegistryVariable> out;
  for (const FoundRegistry& found : registries_) {
    const Registry& r = *found.registry;
    if (r.bias == module.bias && r.target_build_id == module.build_id) {
      out.insert(out.end(), r.variables.begin(), r.variables.end());
    }
  }
  return out;
}

std::vector<RegistryFunction> Superseded::functions(const proc::Module& module,
                                                    Report& report) const {
  std::map<LiveAddr, RegistryFunction> out;
  for (const auto* registries : {&registries_, &kept_}) {
    for (const FoundRegistry& found : *registries) {
      const Registry& r = *found.registry;
      if (r.bias != module.bias || r.target_build_id != module.build_id) {
        continue;
      }
      for (const RegistryFunction& f : r.functions) {
        const auto namesakes = std::count_if(
            r.functions.begin(), r.functions.end(),
            [&](const RegistryFunction& g) { return g.name == f.name && g.file == f.file; });
        if (namesakes > 1) {
          report.refuse("symbol-ambiguous", f.name,
                        fmt::format("patch {} has several functions of this name to which the "
                                    "program may have pointers",
                                    r.patch_id));
        }
        out.emplace(f.code.start, f);
      }
      for (const RegistryDetour& d : r.detours) {
        if (d.of_patch && !d.old_code.empty() && registries == &registries_) {
          out.emplace(d.entry, RegistryFunction{d.function, d.file, d.old_code.front()});
        }
      }
    }
  }
  std::vector<RegistryFunction> functions;
  for (auto& [start, f] : out) {
    functions.push_back(std::move(f));
  }
  return functions;
}

std::vector<ChangedMemory::Change> Superseded::originals() const {
  std::vector<ChangedMemory::Change> out;
  for (const CodeWrite& write : writes()) {
    out.push_back({write.at, write.expected});
  }
  return out;
}

std::vector<CodeWrite> Superseded::writes() const {
  std::vector<CodeWrite> out;
  for (const FoundRegistry& found : registries_) {
    for (CodeWrite& write : writes_of(*found.registry)) {
      out.push_back(std::move(write));
    }
  }
  return out;
}

std::vector<CodeWrite> exchange(const std::vector<CodeWrite>& before,
                                const std::vector<CodeWrite>& after) {
  std::vector<CodeWrite> out;
  std::vector<bool> joined(before.size(), false);
  for (const CodeWrite& now : after) {
    std::vector<const CodeWrite*> under;
    LiveRange range = range_of(now);
    for (size_t i = 0; i < before.size(); ++i) {
      if (range_of(before[i]).overlaps(range_of(now))) {
        QP_ASSERT(!joined[i]);
        joined[i] = true;
        under.push_back(&before[i]);
        range = {std::min(range.start, before[i].at), std::max(range.end, range_of(before[i]).end)};
      }
    }
    Bytes original(range.size());
    lay_over(original, range.start, now, now.expected);
    for (const CodeWrite* write : under) {
      lay_over(original, range.start, *write, write->expected);
    }
    CodeWrite write{now.function, range.start, original, original};
    for (const CodeWrite* there : under) {
      lay_over(write.expected, range.start, *there, there->wanted);
    }
    lay_over(write.wanted, range.start, now, now.wanted);
    out.push_back(std::move(write));
  }
  for (size_t i = before.size(); i > 0; --i) {  // a jump goes before its island
    const CodeWrite& gone = before[i - 1];
    if (!joined[i - 1]) {
      out.push_back({gone.function, gone.at, gone.wanted, gone.expected});
    }
  }
  return out;
}

std::vector<CodeWrite> backwards(const std::vector<CodeWrite>& writes) {
  std::vector<CodeWrite> out;
  for (auto write = writes.rbegin(); write != writes.rend(); ++write) {
    out.push_back({write->function, write->at, write->wanted, write->expected});
  }
  return out;
}

std::vector<NamedCode> code_laid_bare(const std::vector<const Registry*>& before,
                                      const std::vector<const Registry*>& after) {
  std::set<LiveAddr> entries;
  for (const Registry* registry : after) {
    for (const RegistryDetour& d : registry->detours) {
      entries.insert(d.entry);
    }
  }
  std::vector<NamedCode> out;
  for (const Registry* registry : before) {
    for (const RegistryDetour& d : registry->detours) {
      for (const LiveRange range : d.old_code) {
        if (!entries.contains(d.entry)) {
          out.push_back({range, d.function});
        }
      }
    }
  }
  return out;
}

}  // namespace qp::apply
