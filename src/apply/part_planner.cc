// Planning one part: from a patch for one target, and one mapping of that target, to every byte
// that will be written for it.
//
// The order matters for what a user learns: first whether the target's code is what the patch was
// made for (P1), then whether there is room, and last the small print (imports, coroutines). A
// process that runs another build of the target gets the patch tied to that build (rebind.h).

#include "apply/part_planner.h"

#include <algorithm>
#include <ctime>

#include <fmt/format.h>

#include "apply/detours.h"
#include "apply/escape.h"
#include "apply/live_proof.h"
#include "apply/rebind.h"
#include "apply/undo.h"
#include "link/far.h"

namespace qp::apply {
namespace {

constexpr uint64_t kHeapRoom = uint64_t{64} << 20;   // brk may be placed 32 MiB up, and grows
constexpr uint64_t kStackRoom = uint64_t{64} << 20;  // RLIMIT_STACK is 8 MiB as a rule

// Two patches may live in one process; two on one function may not (each would save the other's
// jump as the original bytes).
void check_other_patches(const std::vector<FoundRegistry>& registries, const Superseded& superseded,
                         const format::Patch& patch, LoadBias bias, Report& report) {
  for (const FoundRegistry& found : registries) {
    if (!found.registry || found.registry->state != State::Applied || superseded.has(found)) {
      continue;
    }
    for (const RegistryDetour& d : found.registry->detours) {
      for (const format::Replaced& f : patch.replaced) {
        if (bias(f.entry) == d.entry) {
          report.refuse("already-replaced", f.name,
                        fmt::format("by patch {}", found.registry->patch_id));
        }
      }
    }
  }
}

}  // namespace

PartPlanner::PartPlanner(const proc::Process& process, const std::vector<proc::Module>& modules,
                         const Site& site, const Peers& peers, const Superseded& superseded)
    : process_(process),
      made_(*site.part),
      module_(*site.module),
      superseded_(superseded),
      memory_(process.memory(), superseded.originals()),
      reader_(memory_, module_.bias),
      symbols_(match::SymbolMap::from_file(*module_.file)),
      resolver_(process, modules, module_, peers) {
  plan_.module = module_;
}

void PartPlanner::bind(Report& report) {
  if (module_.build_id == made_.meta.target_build_id) {
    return;
  }
  Report there;
  rebound_ = rebind(made_, target(), module_.build_id, there);
  for (const Refusal& refusal : there.refusals()) {
    report.refuse(
        refusal.id, refusal.where,
        fmt::format("in another build ({}): {}",
                    module_.build_id.empty() ? "no build-id" : module_.build_id.substr(0, 8),
                    refusal.detail));
  }
}

void PartPlanner::check(const std::vector<FoundRegistry>& registries, Report& report) {
  Report first;
  check_other_patches(registries, superseded_, patch(), module_.bias, first);
  for (const Refusal& refusal : first.refusals()) {
    report.refuse(refusal.id, refusal.where, refusal.detail);
  }
  if (!first.clean()) {
    return;  // its code is a jump by now, of which the proof would say that it differs
  }
  if (module_.file->is_library()) {
    resolver_.check_interposition(patch(), report);
  }
  prove_live(process_, module_, target(), patch(), report);
}

match::Target PartPlanner::target() const {
  match::Target target{reader_, symbols_, module_.file->tls_block_end()};
  target.live_bias = module_.bias;
  return target;
}

void PartPlanner::adopt(Report& report) {
  const std::vector<RegistryVariable> there = superseded_.variables(module_);
  if (!there.empty()) {
    adopted_ = apply::adopt(whole_patch(), there, module_.bias, report);
  }
  heirs_ = find_heirs(patch(), superseded_.functions(module_, report), report);
}

void PartPlanner::lead_on_heirs(Report& report) {
  for (const Heir& heir : heirs_) {
    const LiveAddr to = address(heir.now);
    const elf::Atom& atom = patch().fresh.atoms[*patch().fresh.symbols[heir.now].atom];
    auto detour = lead_on(heir, {to, to + atom.size}, memory_, module_.bias, report);
    if (detour) {
      plan_.old_code.push_back(heir.before.code);
      plan_.starts.push_back(heir.before.code.start);
      plan_.starts.push_back(heir.before.code.end);  // of the next function
      plan_.unsafe.push_back(heir.before.code);
      plan_.heirs.push_back(std::move(*detour));
    }
  }
}

// Those that are new, and those that are taken over.
std::vector<RegistryVariable> PartPlanner::variables() const {
  std::vector<RegistryVariable> out;
  if (adopted_) {
    out = adopted_->variables;
  }
  for (const format::Variable& variable : patch().variables) {
    RegistryVariable record = describe(patch(), variable);
    if (!plan_.image.atoms.empty() && record.block_offset) {
      record.at = module_.bias(plan_.image.thread_locals);
      record.block_offset = plan_.image.block_offsets.at(variable.symbol);
    } else if (!plan_.image.atoms.empty()) {
      record.at = address(variable.symbol);
    }
    out.push_back(std::move(record));
  }
  return out;
}

// A revert that could not unmap the image left it where it was; the same patch takes that place
// again, so that applying and reverting for ever does not eat the address space.
std::optional<FoundRegistry> PartPlanner::find_kept(const std::vector<FoundRegistry>& kept,
                                                    const std::string& patch_id) const {
  const uint64_t room = registry_room(make_registry(patch_id, 0));
  const auto size_of = [&](bool far) {
    Report ignored;
    return link::image_size(far ? link::make_far(patch(), ignored) : patch(), room);
  };
  for (const FoundRegistry& found : kept) {
    const bool leads_on = std::any_of(heirs_.begin(), heirs_.end(), [&](const Heir& heir) {
      return found.image.contains(heir.before.code.start);
    });
    if (!leads_on && found.registry->patch_id == patch_id && found.registry->bias == module_.bias &&
        found.registry->target_build_id == patch().meta.target_build_id &&
        found.image.size() <= size_of(is_far(found.image))) {
      return found;
    }
  }
  return std::nullopt;
}

bool PartPlanner::is_far(LiveRange image) const {
  return !link::is_near(link::used_range(patch()),
                        {module_.bias(image.start), module_.bias(image.end)}, module_.bias);
}

link::PlacementRequest PartPlanner::request_for(const std::vector<LiveRange>& taken) const {
  link::PlacementRequest request;
  request.target = module_.file->load_range();
  for (size_t i = 0; adopted_ && i < adopted_->variables.size(); ++i) {
    const RegistryVariable& v = adopted_->variables[i];
    request.also.push_back({v.at, v.at + std::max<uint64_t>(v.size, 1)});
  }
  request.bias = module_.bias;
  request.low_2g = link::needs_low_2g(patch());
  request.occupied = taken;
  for (const proc::Mapping& m : process_.mappings()) {
    request.occupied.push_back(m.range);
    if (m.name == "[heap]") {
      request.avoid.push_back({m.range.start, m.range.end + kHeapRoom});
    } else if (m.name == "[stack]") {
      request.avoid.push_back({m.range.start - kStackRoom, m.range.end});
    }
  }
  std::sort(request.occupied.begin(), request.occupied.end());
  request.avoid.push_back({module_.range.end, module_.range.end + kHeapRoom});
  return request;
}

std::optional<LinkAddr> PartPlanner::choose_base(uint64_t room, const std::vector<LiveRange>& taken,
                                                 Report& report) {
  link::PlacementRequest request = request_for(taken);
  request.size = link::image_size(patch(), room);
  auto base = link::choose_place(request);
  if (!base) {  // it need not reach what it does not use (gigabytes of .bss, say)
    request.target = link::used_range(whole_patch());
    base = link::choose_place(request);
  }
  if (!base) {
    far_ = link::make_far(patch(), report);
    request.size = link::image_size(*far_, room);
    request.far = true;
    base = link::choose_place(request);
  }
  if (!base) {
    report.refuse("no-room", module_.path,
                  fmt::format("no {} KiB are free{}", request.size / 1024,
                              request.low_2g ? " below 2 GiB, where its code must lie" : ""));
  }
  return base;
}

Registry PartPlanner::make_registry(const std::string& patch_id, uint64_t transaction) const {
  const format::Patch& patch = this->patch();
  const LoadBias bias = module_.bias;
  auto live = [&](LinkRange r) { return LiveRange{bias(r.start), bias(r.end)}; };
  Registry r;
  r.state = State::Staged;
  r.patch_id = patch_id;
  r.cves = patch.meta.cves;
  r.description = patch.meta.description;
  r.target_name = patch.meta.target_name;
  r.target_build_id = patch.meta.target_build_id;
  r.staged_at = std::time(nullptr);
  r.bias = bias;
  r.transaction = transaction;
  // Shadow variables (build/runtime/shadow.c) outlive a revert, and are found from the image.
  const auto& symbols = whole_patch().fresh.symbols;
  const bool shadows = std::any_of(symbols.begin(), symbols.end(), [](const elf::AtomSymbol& s) {
    return s.atom && s.name == "qpatch_shadow_root";
  });
  r.may_escape = shadows || !handed_out(whole_patch().fresh).empty();
  r.variables = variables();
  r.functions = functions_handed_out(whole_patch(), [&](elf::AtomSymbolId id) {
    return plan_.image.atoms.empty() ? LiveAddr(0) : address(id);
  });
  for (const FoundRegistry& found : superseded_.registries()) {
    const std::string& id = found.registry->patch_id;
    if (std::find(r.supersedes.begin(), r.supersedes.end(), id) == r.supersedes.end()) {
      r.supersedes.push_back(id);
    }
  }
  r.image = live(plan_.image.range);
  for (size_t i = 0; i < patch.replaced.size(); ++i) {
    const format::Replaced& f = patch.replaced[i];
    RegistryDetour d{.function = f.name, .file = f.file, .saved = Bytes(5), .jump = Bytes(5)};
    d.island = RegistryDetour::Island{LiveAddr(0), Bytes(14), Bytes(14)};  // room for it
    d.entry = bias(f.entry);
    for (LinkRange range : f.ranges) {
      d.old_code.push_back(live(range));
    }
    if (i < plan_.detours.size()) {  // known once the image is linked
      d.at = bias(plan_.detours[i].at);
      d.saved = plan_.detours[i].expected;
      d.jump = plan_.detours[i].jump;
      d.island.reset();
      if (const auto& island = plan_.detours[i].island) {
        d.island = RegistryDetour::Island{bias(island->at), island->expected, island->jump};
      }
      d.new_code = live(plan_.image.new_functions[i].range);
    }
    r.detours.push_back(std::move(d));
  }
  for (size_t i = 0; i < heirs_.size(); ++i) {
    const RegistryFunction& before = heirs_[i].before;
    RegistryDetour room{.function = before.name, .file = before.file};
    room.saved = room.jump = Bytes(5);
    room.old_code = {before.code};
    r.detours.push_back(i < plan_.heirs.size() ? plan_.heirs[i] : std::move(room));
  }
  for (size_t i = 0; i < patch.hooks.size(); ++i) {
    const format::Hook& h = patch.hooks[i];
    const bool linked = i < plan_.image.hooks.size();
    r.hooks.push_back(
        {h.name, h.when, h.others, linked ? bias(plan_.image.hooks[i]) : LiveAddr(0)});
  }
  if (!plan_.image.hooks.empty()) {
    r.hook_return = bias(plan_.image.hook_return);
    r.hook_asked = bias(plan_.image.hook_asked);
  }
  return r;
}

void PartPlanner::link_at(LinkAddr base, uint64_t room, const std::string& patch_id,
                          uint64_t transaction, Report& report) {
  plan_ = PartPlan();
  plan_.module = module_;
  plan_.image = link::link_image(far_ ? *far_ : patch(), base, room, report,
                                 adopted_ ? adopted_->thread_locals : link::ThreadLocals());
  if (!report.clean()) {
    return;
  }
  plan_detours(process_, target(), superseded_, patch(), plan_, report);
  lead_on_heirs(report);
  if (!report.clean()) {
    return;
  }
  plan_.registry = make_registry(patch_id, transaction);
  plan_.registry_at = module_.bias(plan_.image.registry.start);
  if (!heirs_.empty()) {  // what was believed of other registries, as a revert will look at it
    for (const std::string& fault :
         find_faults(process_, &module_, plan_.registry, Expected::Anything)) {
      report.refuse("registry-damaged", patch_id, fault);
    }
  }
}

// It is used again only as it is: another padding may serve for an island by now, or another variable be
// taken over, and whoever dies while he changes a record leaves none. So the bytes under the header's
// checksum stay what they are, and that it is known to have run.
bool PartPlanner::becomes(const FoundRegistry& kept) {
  plan_.registry.staged_at = kept.registry->staged_at;
  plan_.registry.applied_at = kept.registry->applied_at;
  Registry as_kept = plan_.registry;
  as_kept.state = kept.registry->state;
  plan_.reuse =
      kept.where.find(image_name(as_kept.patch_id, plan_.image.build_id)) != std::string::npos &&
      encode_registry(as_kept) == encode_registry(*kept.registry);
  return plan_.reuse;
}

void PartPlanner::link(const std::vector<FoundRegistry>& kept, const std::string& patch_id,
                       uint64_t transaction, const std::vector<LiveRange>& taken, Report& report) {
  plan_ = PartPlan();
  far_.reset();
  const uint64_t room = registry_room(make_registry(patch_id, transaction));
  if (const auto before = find_kept(kept, patch_id)) {
    Report there;
    if (is_far(before->image)) {
      far_ = link::make_far(patch(), there);
    }
    link_at(module_.bias(before->image.start), room, patch_id, transaction, there);
    if (there.clean() && becomes(*before)) {
      return;
    }
  }
  far_.reset();
  const auto base = choose_base(room, taken, report);
  if (base && report.clean()) {
    link_at(*base, room, patch_id, transaction, report);
  }
}

LiveAddr PartPlanner::address(elf::AtomSymbolId id) const {
  const elf::AtomSymbol& symbol = patch().fresh.symbols[id];
  return module_.bias(symbol.atom ? plan_.image.atoms[*symbol.atom] + symbol.offset
                                  : patch().fresh_bindings[id].address);
}

std::optional<uint64_t> PartPlanner::find_value(const link::Fill& fill, Report& report) const {
  using Kind = link::Fill::Kind;
  if (fill.kind == Kind::Address) {
    return module_.bias(fill.address).value;
  }
  if (fill.kind == Kind::OwnTlsModule) {
    return resolver_.tls_module_of_target(report);
  }
  const elf::AtomSymbol& symbol = patch().fresh.symbols[fill.import];
  const elf::Binding& binding = patch().fresh_bindings[fill.import];
  if (fill.kind == Kind::Import) {
    const auto address = resolver_.resolve(symbol, binding, report);
    return address ? std::optional(address->value + static_cast<uint64_t>(fill.addend))
                   : std::nullopt;
  }
  const auto variable = resolver_.resolve_thread_local(symbol, binding, report);
  if (!variable || fill.kind == Kind::TlsOffset) {
    return variable ? std::optional(variable->offset) : std::nullopt;
  }
  const bool number = fill.kind == Kind::TlsModule;
  if (number ? variable->module == 0 : !variable->tp_offset) {
    report.refuse("tls-unsupported", symbol.name,
                  number ? "nothing in the process tells which number ld.so gave its module"
                         : "its module has no room in the threads' static blocks, and the new code "
                           "relies on one");
    return std::nullopt;
  }
  return number ? variable->module : *variable->tp_offset;
}

void PartPlanner::resolve(Report& report) {
  const LoadBias bias = module_.bias;
  for (const link::Fill& fill : plan_.image.fills) {
    const auto value = find_value(fill, report);
    if (!value) {
      continue;
    }
    Bytes bytes;
    append(bytes, *value);
    plan_.writes.push_back({bias(fill.at), std::move(bytes)});
  }
  Bytes registry = encode_registry(plan_.registry);
  QP_ASSERT(registry.size() <= plan_.image.registry.size());
  // Its header comes last: an image whose header was never written has no registry, not half of one.
  plan_.writes.push_back(
      {plan_.registry_at + kRegistryHeader,
       copy(slice(registry, kRegistryHeader, registry.size() - kRegistryHeader))});
  registry.resize(kRegistryHeader);
  plan_.writes.push_back({plan_.registry_at, std::move(registry)});
}

}  // namespace qp::apply
