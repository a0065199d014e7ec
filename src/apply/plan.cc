// Planning: from a patch and a running process to every byte that will be written.
//
// Nothing here stops or changes the process, and everything that can be found wrong is found here:
// after the plan, what remains is mapping memory and writing bytes whose values are known.
//
// A patch can have several parts, and a part several places to go (targets.cc). Each becomes an
// image of its own, since each has to lie near its target; what ties them together is done here.
// They must not lie on each other, and new code of one may call what another defines anew: a new
// function of a library that the program calls now. ld.so knows nothing of such a name. The search
// for it is ld.so's as well, with what the other parts define added to what their modules define
// (imports.cc). A name that two parts define anew is refused if one of them is a library: which of
// the two the library would use is decided by the linker of a rebuilt program, which may or may not
// export it from the executable.

#include "apply/plan.h"

#include <algorithm>
#include <chrono>
#include <deque>
#include <map>

#include <fmt/format.h>

#include "apply/hooks.h"
#include "apply/part_planner.h"
#include "apply/undo.h"

namespace qp::apply {
namespace {

using Parts = std::deque<PartPlanner>;

template <class F>
void for_each_new_global(const PartPlanner& part, const F& f) {
  for (const elf::AtomSymbolId id : format::new_globals(part.whole_patch())) {
    f(id, part.whole_patch().fresh.symbols[id]);
  }
}

void check_new_names(const Parts& parts, Report& report) {
  std::map<std::string, const PartPlanner*> known;
  for (const PartPlanner& part : parts) {
    for_each_new_global(part, [&](elf::AtomSymbolId, const elf::AtomSymbol& symbol) {
      if (symbol.bind == elf::SymbolBind::Weak) {
        return;  // they are equal, wherever they are
      }
      const auto [at, is_new] = known.emplace(symbol.name, &part);
      const bool library =
          part.module().file->is_library() || at->second->module().file->is_library();
      if (!is_new && at->second != &part && library) {
        report.refuse("interposed", symbol.name,
                      fmt::format("the patch defines it anew for {} and for {} at {:#x}, and which "
                                  "of the two the library would use can't be told",
                                  at->second->module().path, part.module().path,
                                  part.module().range.start.value));
      }
    });
  }
}

void add_definitions(const Parts& parts, Peers& peers) {
  for (const PartPlanner& part : parts) {
    for_each_new_global(part, [&](elf::AtomSymbolId id, const elf::AtomSymbol& symbol) {
      if (symbol.type != elf::SymbolType::Tls) {
        peers.defined[symbol.name].push_back(
            {&part.module(), part.address(id), symbol.type, symbol.bind, LinkAddr(0)});
      }
    });
  }
}

// All parts take the step, unless there are findings already. True if there are none after it.
template <class Step>
bool each(Parts& parts, Report& report, const Step& step) {
  if (report.clean()) {
    std::for_each(parts.begin(), parts.end(), step);
  }
  return report.clean();
}

// A patch that holds this one's repair is there: this one would take it out again.
void check_successors(const std::vector<FoundRegistry>& registries, const Superseded& superseded,
                      const std::string& patch_id, Report& report) {
  for (const FoundRegistry& found : registries) {
    if (!found.registry || found.registry->state != State::Applied || superseded.has(found)) {
      continue;
    }
    const auto& ids = found.registry->supersedes;
    if (std::find(ids.begin(), ids.end(), patch_id) != ids.end()) {
      report.refuse(
          "superseded", patch_id,
          fmt::format("patch {}, which is applied, took its place", found.registry->patch_id));
      return;
    }
  }
}

// Images that a revert left, of transactions of which nothing is applied. Not those whose variables are
// in use.
std::vector<FoundRegistry> reverted(const std::vector<FoundRegistry>& registries) {
  std::vector<FoundRegistry> out;
  for (const Group& group : group_registries(registries)) {
    if (std::all_of(group.begin(), group.end(), [](const FoundRegistry& found) {
          return found.registry->state == State::Reverted && found.registry->transaction != 0;
        })) {
      out.insert(out.end(), group.begin(), group.end());
    }
  }
  const std::vector<FoundRegistry> used = in_use(registries, Users::Applied);
  std::erase_if(out, [&](const FoundRegistry& found) { return is_one_of(used, found); });
  return out;
}

// The number that is written into all images, distinct among the transactions of this process. A
// kept image that is used again keeps its own, as all that is under its checksum: the others take it
// over, and `kept` is reduced to those that have it.
uint64_t choose_transaction(const Parts& parts, const std::string& patch_id,
                            std::vector<FoundRegistry>& kept) {
  for (const PartPlanner& part : parts) {
    if (const auto before = part.find_kept(kept, patch_id)) {
      std::erase_if(kept, [&](const FoundRegistry& found) {
        return found.registry->transaction != before->registry->transaction;
      });
      return before->registry->transaction;
    }
  }
  kept.clear();
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return static_cast<uint64_t>(std::max<int64_t>(now.count(), 1));
}

void join(Parts& parts, Plan& plan) {
  for (PartPlanner& part : parts) {
    plan.parts.push_back(part.take());
    const PartPlan& p = plan.parts.back();
    plan.old_code.insert(plan.old_code.end(), p.old_code.begin(), p.old_code.end());
    plan.unsafe.insert(plan.unsafe.end(), p.unsafe.begin(), p.unsafe.end());
    plan.starts.insert(plan.starts.end(), p.starts.begin(), p.starts.end());
  }
  plan.old_code = normalise(std::move(plan.old_code));
  for (const FoundRegistry& found : plan.superseded.registries()) {
    add_new_code_ranges(*found.registry, plan.leaving);
    for (const RegistryDetour& d : found.registry->detours) {
      plan.old_code.push_back(d.new_code);
      plan.starts.push_back(d.new_code.start);
      plan.starts.push_back(d.new_code.end);  // of the next function
      if (d.island) {
        plan.unsafe.push_back({d.island->at, d.island->at + d.island->jump.size()});
      }
    }
  }
  plan.old_code = normalise(std::move(plan.old_code));
  plan.unsafe = normalise(std::move(plan.unsafe));
}

}  // namespace

size_t Plan::functions() const {
  size_t n = 0;
  for (const PartPlan& part : parts) {
    n += part.detours.size();
  }
  return n;
}

std::vector<LiveRange> normalise(std::vector<LiveRange> ranges) {
  std::sort(ranges.begin(), ranges.end());
  std::vector<LiveRange> out;
  for (LiveRange r : ranges) {
    if (!out.empty() && r.start <= out.back().end) {
      out.back().end = std::max(out.back().end, r.end);
    } else {
      out.push_back(r);
    }
  }
  return out;
}

std::optional<Plan> make_plan(const proc::Process& process, const format::PatchFile& file,
                              const std::vector<std::string>& replaces, Report& report) {
  const std::string patch_id = file.id();
  const std::vector<proc::Module> modules = process.modules();
  const std::vector<FoundRegistry> registries = find_registries(process);
  const Sites sites = find_sites(process, modules, file, patch_id, registries, report);
  Plan plan;
  plan.patch_id = patch_id;
  plan.functions_there = sites.functions_there;
  if (!report.clean() || sites.missing.empty()) {
    return report.clean() ? std::optional(std::move(plan)) : std::nullopt;
  }
  std::vector<std::string> ids = file.parts.front().meta.supersedes;
  ids.insert(ids.end(), replaces.begin(), replaces.end());
  std::erase(ids, patch_id);
  plan.superseded = Superseded(process, modules, registries, ids, report);
  check_successors(registries, plan.superseded, patch_id, report);
  if (!report.clean()) {
    return std::nullopt;
  }
  for (const format::Patch& part : file.parts) {
    if (!part.hooks.empty()) {
      check_hooks(process, patch_id, report);
      break;
    }
  }
  if (!report.clean()) {
    return std::nullopt;
  }
  Peers peers;
  Parts parts;
  for (const Site& site : sites.missing) {
    parts.emplace_back(process, modules, site, peers, plan.superseded);
  }
  each(parts, report, [&](PartPlanner& part) { part.bind(report); });
  for (const PartPlanner& part : parts) {
    for (const format::Replaced& f : part.patch().replaced) {
      peers.replaced.insert(part.module().bias(f.entry));
    }
  }
  each(parts, report, [&](PartPlanner& part) { part.check(registries, report); });
  each(parts, report, [&](PartPlanner& part) { part.adopt(report); });
  check_new_names(parts, report);
  std::vector<FoundRegistry> kept = reverted(registries);
  uint64_t transaction = 0;
  if (report.clean()) {
    transaction = choose_transaction(parts, patch_id, kept);
  }
  const auto link_all = [&] {
    std::vector<LiveRange> taken;
    each(parts, report, [&](PartPlanner& part) {
      part.link(kept, patch_id, transaction, taken, report);
      taken.push_back(part.image());
    });
  };
  link_all();
  if (report.clean() && !kept.empty() &&
      std::none_of(parts.begin(), parts.end(), [](auto& p) { return p.uses_kept_image(); })) {
    kept.clear();
    transaction = choose_transaction(parts, patch_id, kept);
    link_all();
  }
  if (report.clean()) {
    add_definitions(parts, peers);
  }
  if (!each(parts, report, [&](PartPlanner& part) { part.resolve(report); })) {
    return std::nullopt;
  }
  join(parts, plan);
  return plan;
}

}  // namespace qp::apply
