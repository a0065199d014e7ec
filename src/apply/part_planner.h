// Plans one part of a patch, for one mapping of its target.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "apply/adopt.h"
#include "apply/heirs.h"
#include "apply/imports.h"
#include "apply/plan.h"
#include "apply/targets.h"
#include "link/placement.h"
#include "match/proof.h"
#include "match/symbol_map.h"

namespace qp::apply {

// The steps, in this order. All parts take one before any takes the next; where a report has
// findings after it, there is no next one.
class PartPlanner {
 public:
  // `modules`, `peers` and `superseded` outlive it. `peers` grows until resolve().
  PartPlanner(const proc::Process& process, const std::vector<proc::Module>& modules,
              const Site& site, const Peers& peers, const Superseded& superseded);
  PartPlanner(const PartPlanner&) = delete;
  PartPlanner& operator=(const PartPlanner&) = delete;

  // To the build that the process runs. Findings: rebind()'s.
  void bind(Report& report);
  // Is the code what the patch was made for, and free? Findings: already-replaced, prove_live()'s,
  // those of ImportResolver::check_interposition().
  void check(const std::vector<FoundRegistry>& registries, Report& report);
  // Uses variables of superseded patches where they are, and finds who is led to what from their functions.
  // Findings: variable-changed.
  void adopt(Report& report);
  // Of `kept` (all of them reverted, with a registry), one of this part that can be used again.
  std::optional<FoundRegistry> find_kept(const std::vector<FoundRegistry>& kept,
                                         const std::string& patch_id) const;
  // Takes the place of one that is kept, or finds one that no range of `taken` overlaps, and links
  // there. Those that are kept have the number `transaction`. Findings: no-room, call-at-entry,
  // link's.
  void link(const std::vector<FoundRegistry>& kept, const std::string& patch_id,
            uint64_t transaction, const std::vector<LiveRange>& taken, Report& report);
  // Values that differ per process. Findings: those of ImportResolver.
  void resolve(Report& report);

  const format::Patch& patch() const { return adopted_ ? adopted_->patch : whole_patch(); }
  // With the variables that are taken over.
  const format::Patch& whole_patch() const { return rebound_ ? *rebound_ : made_; }
  const proc::Module& module() const { return module_; }
  LiveRange image() const { return plan_.registry.image; }
  bool uses_kept_image() const { return plan_.reuse; }
  // Of a symbol that the whole patch defines, once it is linked.
  LiveAddr address(elf::AtomSymbolId symbol) const;
  PartPlan take() { return std::move(plan_); }

 private:
  // Out of reach of the distances in the patch's code.
  bool is_far(LiveRange image) const;
  link::PlacementRequest request_for(const std::vector<LiveRange>& taken) const;
  std::optional<LinkAddr> choose_base(uint64_t room, const std::vector<LiveRange>& taken,
                                      Report& report);
  // Nullopt with a finding.
  std::optional<uint64_t> find_value(const link::Fill& fill, Report& report) const;
  Registry make_registry(const std::string& patch_id, uint64_t transaction) const;

  void link_at(LinkAddr base, uint64_t room, const std::string& patch_id, uint64_t transaction,
               Report& report);
  // The plan to use an image again. False: what is linked now is another one.
  bool becomes(const FoundRegistry& kept);
  std::vector<RegistryVariable> variables() const;
  // From functions of superseded patches.
  void lead_on_heirs(Report& report);
  // The target's code as it is without the superseded patches.
  match::Target target() const;

  const proc::Process& process_;
  const format::Patch& made_;
  const proc::Module& module_;
  const Superseded& superseded_;
  const ChangedMemory memory_;
  const ModuleReader reader_;
  std::optional<format::Patch> rebound_;
  std::optional<Adopted> adopted_;
  std::vector<Heir> heirs_;
  std::optional<format::Patch> far_;  // what is linked, if nothing near the target is free
  match::SymbolMap symbols_;
  ImportResolver resolver_;
  PartPlan plan_;
};

}  // namespace qp::apply
