// A patch has a part for each target, and a process maps each target as often as it likes: not at
// all (another program that uses the same library), once, or several times (a copy of a library under
// another path). All that is there is patched, in one transaction. What is not there is not waited
// for, since a library that is opened later is a process like any other until somebody patches it;
// the outcome says so, and the same `apply` does it then: a mapping that has the patch already is
// left alone.
//
// In an emulator (find_emulator) code can be there and never run.
//
// A mapping is the target's if it has its build-id. If none has, one of the target's name is taken
// for another build of it, and the patch is tied to that (rebind.h). Two executables can't be told
// apart by a link map, so only libraries may be there more than once.

#include "apply/targets.h"

#include <sys/auxv.h>

#include <algorithm>

#include <fmt/format.h>

#include "apply/undo.h"
#include "proc/procfs.h"

namespace qp::apply {
namespace {

using Modules = std::vector<const proc::Module*>;

bool is_called(const proc::Module& module, const format::Meta& target) {
  return module.file &&
         (module.path.substr(module.path.rfind('/') + 1) == target.target_name ||
          (!target.target_soname.empty() && module.file->soname() == target.target_soname));
}

// Those with the build-id, else those of the name.
Modules mappings_of(const std::vector<proc::Module>& modules, const format::Patch& part,
                    Report& report) {
  Modules same, named;
  for (const proc::Module& m : modules) {
    if (m.build_id == part.meta.target_build_id) {
      same.push_back(&m);
    } else if (is_called(m, part.meta)) {
      named.push_back(&m);
    }
  }
  const bool readable = std::any_of(same.begin(), same.end(), [](auto* m) { return m->file; });
  if (!same.empty() && !readable) {
    return {};
  }
  if (!same.empty()) {
    for (const proc::Module* other : named) {
      report.warn(fmt::format("{} at {:#x} is another build of {} and is not patched", other->path,
                              other->range.start.value, part.meta.target_name));
    }
  }
  return same.empty() ? named : same;
}

// Some programs copy their code to huge pages when they start; then their file is mapped, and no
// code of it.
bool was_moved(const proc::Process& process, const std::string& name) {
  const std::vector<proc::Mapping> mappings = process.mappings();
  return process.program() == name ||
         std::any_of(mappings.begin(), mappings.end(), [&](const proc::Mapping& m) {
           return m.inode != 0 && m.name.substr(m.name.rfind('/') + 1) == name;
         });
}

void check_several(const Modules& chosen, const format::Patch& part, Report& report) {
  if (chosen.size() < 2) {
    return;
  }
  const auto unfit = std::find_if(chosen.begin(), chosen.end(), [](const proc::Module* m) {
    return !m->file || !m->file->is_library();
  });
  if (unfit == chosen.end()) {
    return;
  }
  const proc::Module& other = *(unfit == chosen.begin() ? chosen[1] : chosen[0]);
  report.refuse("mapped-twice", part.meta.target_name,
                fmt::format("{} at {:#x} and {} at {:#x}; {}", (*unfit)->path,
                            (*unfit)->range.start.value, other.path, other.range.start.value,
                            (*unfit)->file ? "they are executables" : "a file can't be opened"));
}

// An emulator is a static program that maps the code of another one, to read it: what the processor
// runs is made of it, and kept (valgrind's cache of translations). Where the running program's headers
// are, the kernel has told it (AT_PHDR). ld.so can be run by itself too, but it is a library.
const proc::Module* find_emulator(const proc::Process& process,
                                  const std::vector<proc::Module>& modules) {
  const auto headers = proc::find_auxiliary(process.pid(), AT_PHDR);
  const auto runs = std::find_if(modules.begin(), modules.end(), [&](const proc::Module& m) {
    return headers && m.range.contains(LiveAddr(*headers));
  });
  if (runs == modules.end() || !runs->file || !runs->file->is_static()) {
    return nullptr;
  }
  const bool has_other = std::any_of(modules.begin(), modules.end(), [&](const proc::Module& m) {
    return &m != &*runs && m.file && !m.file->is_library() && !m.executable.empty();
  });
  return has_other ? &*runs : nullptr;
}

// The registry of this patch for this mapping.
const Registry* find_applied(const std::vector<FoundRegistry>& registries,
                             const std::string& patch_id, const proc::Module& module) {
  for (const FoundRegistry& found : registries) {
    if (found.registry && found.registry->state == State::Applied &&
        found.registry->patch_id == patch_id && found.registry->bias == module.bias &&
        found.registry->target_build_id == module.build_id) {
      return &*found.registry;
    }
  }
  return nullptr;
}

void check_registries(const proc::Process& process, const std::vector<proc::Module>& modules,
                      const std::string& patch_id, const std::vector<FoundRegistry>& registries,
                      Report& report) {
  for (const FoundRegistry& found : registries) {
    if (!found.registry) {
      report.refuse("registry-damaged", found.where, found.fault);
      continue;
    }
    const Registry& r = *found.registry;
    if (r.state != State::Applied && r.state != State::Reverted) {
      report.refuse(
          "interrupted", r.patch_id,
          fmt::format("its registry at {:#x} is {}", found.at.value, state_name(r.state)));
    } else if (r.state == State::Applied && r.patch_id == patch_id) {
      const auto faults = find_faults(process, find_module(modules, r), r);
      if (!faults.empty()) {
        report.refuse("registry-damaged", patch_id, faults.front());
      }
    }
  }
}

std::string names_of(const format::PatchFile& file) {
  std::string out;
  for (const format::Patch& part : file.parts) {
    out += (out.empty() ? "" : ", ") + part.meta.target_name;
  }
  return out;
}

std::string build_ids_of(const format::PatchFile& file) {
  std::string out;
  for (const format::Patch& part : file.parts) {
    out += (out.empty() ? "" : " or ") + part.meta.target_build_id;
  }
  return out;
}

}  // namespace

Sites find_sites(const proc::Process& process, const std::vector<proc::Module>& modules,
                 const format::PatchFile& file, const std::string& patch_id,
                 const std::vector<FoundRegistry>& registries, Report& report) {
  Sites sites;
  std::vector<const format::Patch*> absent;
  const proc::Module* emulator = find_emulator(process, modules);
  check_registries(process, modules, patch_id, registries, report);
  for (const format::Patch& part : file.parts) {
    const Modules chosen = mappings_of(modules, part, report);
    check_several(chosen, part, report);
    if (chosen.empty() && was_moved(process, part.meta.target_name)) {
      report.refuse("text-not-private", part.meta.target_name,
                    "the process has the file, but none of its code: it was copied into other "
                    "memory (huge pages, perhaps)");
    } else if (chosen.empty()) {
      absent.push_back(&part);
    }
    for (const proc::Module* module : chosen) {
      if (emulator != nullptr && module != emulator) {
        report.refuse("not-executed", part.meta.target_name,
                      fmt::format("what runs is {}", emulator->path));
        break;
      }
      if (const Registry* there = find_applied(registries, patch_id, *module)) {
        sites.functions_there +=
            static_cast<size_t>(std::count_if(there->detours.begin(), there->detours.end(),
                                              [](const RegistryDetour& d) { return !d.of_patch; }));
      } else {
        sites.missing.push_back({&part, module});
      }
    }
  }
  if (absent.size() == file.parts.size()) {
    report.refuse("not-in-process", names_of(file),
                  fmt::format("no mapped file has this name, or build-id {}", build_ids_of(file)));
  } else {
    for (const format::Patch* part : absent) {
      report.warn(fmt::format("{} is not mapped: its part of the patch is not applied",
                              part->meta.target_name));
    }
  }
  return sites;
}

}  // namespace qp::apply
