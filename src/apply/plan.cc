// Planning: from a patch and a running process to every byte that will be written.
//
// Nothing here stops or changes the process, and everything that can be found wrong is found here:
// after the plan, what remains is mapping memory and writing bytes whose values are known. The
// order matters for what a user learns: first whether the process uses the target at all, then
// whether its code is what the patch was made for (P1), then whether there is room, and last the
// small print (imports, shared text, coroutines).
//
// The proof is repeated on live memory although `build` did it on the file: the process can run a
// file that was replaced, and breakpoints, uprobes or another patcher can have changed its text. A
// process that runs another build of the target gets the patch tied to that build (rebind.h).

#include "apply/plan.h"

#include <algorithm>
#include <ctime>

#include <fmt/format.h>

#include "apply/detours.h"
#include "apply/escape.h"
#include "apply/imports.h"
#include "apply/rebind.h"
#include "apply/registries.h"
#include "link/placement.h"
#include "match/proof.h"

namespace qp::apply {
namespace {

constexpr uint64_t kHeapRoom = uint64_t{64} << 20;   // brk may be placed 32 MiB up, and grows
constexpr uint64_t kStackRoom = uint64_t{64} << 20;  // RLIMIT_STACK is 8 MiB as a rule

// Some programs copy their code to huge pages when they start; then their file is mapped, and no
// code of it.
bool was_moved(const proc::Process& process, const std::string& name) {
  const std::vector<proc::Mapping> mappings = process.mappings();
  return process.program() == name ||
         std::any_of(mappings.begin(), mappings.end(), [&](const proc::Mapping& m) {
           return m.inode != 0 && m.name.substr(m.name.rfind('/') + 1) == name;
         });
}

// The module with the target's build-id; else one of its name, which then is another build.
std::optional<size_t> find_target(const proc::Process& process,
                                  const std::vector<proc::Module>& modules,
                                  const format::Patch& patch, Report& report) {
  std::vector<size_t> same, named;
  for (size_t i = 0; i < modules.size(); ++i) {
    const proc::Module& m = modules[i];
    if (m.build_id == patch.meta.target_build_id) {
      same.push_back(i);
    } else if (m.file && (m.path.substr(m.path.rfind('/') + 1) == patch.meta.target_name ||
                          (!patch.meta.target_soname.empty() &&
                           m.file->soname() == patch.meta.target_soname))) {
      named.push_back(i);
    }
  }
  const std::vector<size_t>& chosen = same.empty() ? named : same;
  if (chosen.size() > 1) {
    const proc::Module &a = modules[chosen[0]], &b = modules[chosen[1]];
    report.refuse("mapped-twice", patch.meta.target_name,
                  fmt::format("{} at {:#x} and {} at {:#x}", a.path, a.range.start.value, b.path,
                              b.range.start.value));
    return std::nullopt;
  }
  if (chosen.empty() && was_moved(process, patch.meta.target_name)) {
    report.refuse("text-not-private", patch.meta.target_name,
                  "the process has the file, but none of its code: it was copied into other memory "
                  "(huge pages, perhaps)");
    return std::nullopt;
  }
  if (chosen.empty() || !modules[chosen[0]].file) {
    report.refuse(
        "not-in-process", patch.meta.target_name,
        fmt::format("no mapped file has this name, or build-id {}", patch.meta.target_build_id));
    return std::nullopt;
  }
  return chosen[0];
}

// Two patches may live in one process; two on one function may not (each would save the other's
// jump as the original bytes).
void check_other_patches(const proc::Process& process, const format::Patch& patch, LoadBias bias,
                         Report& report) {
  for (const FoundRegistry& found : find_registries(process)) {
    if (!found.registry) {
      report.refuse("registry-damaged", found.where, found.fault);
      continue;
    }
    const Registry& r = *found.registry;
    if (r.state == State::Reverted) {
      continue;
    }
    if (r.state != State::Applied) {
      report.refuse(
          "interrupted", r.patch_id,
          fmt::format("its registry at {:#x} is {}", found.at.value, state_name(r.state)));
      continue;
    }
    for (const RegistryDetour& d : r.detours) {
      for (const format::Replaced& f : patch.replaced) {
        if (bias(f.entry) == d.entry) {
          report.refuse("already-replaced", f.name, fmt::format("by patch {}", r.patch_id));
        }
      }
    }
  }
}

const char* describe(elf::BindingKind kind) {
  switch (kind) {
    case elf::BindingKind::Unbound:
      return "unbound";
    case elf::BindingKind::Address:
      return "an address";
    case elf::BindingKind::TpOffset:
    case elf::BindingKind::ModuleOffset:
    case elf::BindingKind::TlsSlot:
      return "thread-local";
    case elf::BindingKind::Import:
      return "an import";
  }
  return "";
}

void check_solutions(const format::Patch& patch, const std::vector<match::Solution>& solutions,
                     Report& report) {
  for (const match::Solution& s : solutions) {
    const elf::Binding& want = patch.old_bindings[s.symbol];
    const elf::Binding& have = s.binding;
    const std::string& name = patch.old.symbols[s.symbol].name;
    if (want.kind == elf::BindingKind::Unbound) {
      continue;
    }
    if (want.kind != have.kind) {
      report.refuse("binding-conflict", name,
                    fmt::format("the patch has {}, the process {}", describe(want.kind),
                                describe(have.kind)));
    } else if (want.kind == elf::BindingKind::Address && want.address != have.address) {
      report.refuse("binding-conflict", name,
                    fmt::format("the patch has it at {:#x}, the process at {:#x}",
                                want.address.value, have.address.value));
    } else if (want.tp_offset != have.tp_offset) {
      report.refuse("binding-conflict", name,
                    fmt::format("the patch has it at {:#x} in thread-local storage, the process at "
                                "{:#x}",
                                want.tp_offset, have.tp_offset));
    }
  }
}

// Did somebody write over the function since the file was mapped: a breakpoint, an uprobe, a patcher?
std::string find_modification(const proc::Process& process, const proc::Module& module,
                              const format::Replaced& f) {
  elf::FileReader file(*module.file);
  for (LinkRange range : f.ranges) {
    Bytes want(range.size());
    Bytes have(range.size());
    if (!file.try_read(range.start, want) ||
        !process.memory().try_read(module.bias(range.start), have)) {
      return "";
    }
    auto [w, h] = std::mismatch(want.begin(), want.end(), have.begin());
    if (w != want.end()) {
      auto at = static_cast<size_t>(w - want.begin());
      size_t size = std::min<size_t>(8, want.size() - at);
      return fmt::format("{:#x} holds {}, the file has {}", (module.bias(range.start) + at).value,
                         hex(ByteView(have).subspan(at, size)),
                         hex(ByteView(want).subspan(at, size)));
    }
  }
  return "";
}

// P1: the live code is the original's, instruction by instruction.
void prove(const proc::Process& process, const proc::Module& module, const match::Target& target,
           const format::Patch& patch, Report& report) {
  for (const format::Replaced& f : patch.replaced) {
    auto proof = match::prove_unit(patch.old, f.old_function, f.entry, target);
    if (!proof.proven) {
      if (std::string what = find_modification(process, module, f); !what.empty()) {
        report.refuse("text-modified", f.name, what);
        continue;
      }
      report.refuse("code-differs", f.name,
                    proof.difference
                        ? fmt::format("{} at {:#x}: {}", proof.difference->function,
                                      proof.difference->target_at.value, proof.difference->what)
                        : "its code could not be read");
      continue;
    }
    if (proof.ranges != f.ranges) {
      report.refuse("code-differs", f.name, "its pieces are not where the patch has them");
    }
    check_solutions(patch, proof.solutions, report);
  }
}

void check_mappings(const std::vector<proc::Mapping>& mappings, LoadBias bias,
                    const format::Patch& patch, Report& report) {
  for (const format::Replaced& f : patch.replaced) {
    LiveAddr entry = bias(f.entry);
    auto it = std::find_if(mappings.begin(), mappings.end(),
                           [&](const proc::Mapping& m) { return m.range.contains(entry); });
    if (it == mappings.end()) {
      report.refuse("code-differs", f.name, fmt::format("{:#x} is not mapped", entry.value));
    } else if (it->shared) {
      report.refuse("text-not-private", f.name, fmt::format("{} is mapped shared", it->name));
    } else if (it->writable) {
      report.refuse("text-not-private", f.name,
                    fmt::format("{} is mapped writable and executable", it->name));
    }
  }
}

// A revert that could not unmap the image left it where it was; the same patch takes that place
// again, so that applying and reverting for ever does not eat the address space.
std::optional<LinkAddr> kept_base(const proc::Process& process, const Plan& plan, uint64_t size) {
  for (const FoundRegistry& found : find_registries(process)) {
    if (found.registry && found.registry->state == State::Reverted &&
        found.registry->patch_id == plan.patch_id && found.registry->bias == plan.module().bias &&
        found.image.size() <= size) {
      return plan.module().bias(found.image.start);
    }
  }
  return std::nullopt;
}

std::optional<LinkAddr> choose_base(const proc::Process& process, const Plan& plan,
                                    const format::Patch& patch, uint64_t registry_size,
                                    Report& report) {
  const proc::Module& module = plan.module();
  link::PlacementRequest request;
  request.target = module.file->load_range();
  request.size = link::image_size(patch, registry_size);
  request.bias = module.bias;
  request.low_2g = link::needs_low_2g(patch);
  for (const proc::Mapping& m : process.mappings()) {
    request.occupied.push_back(m.range);
    if (m.name == "[heap]") {
      request.avoid.push_back({m.range.start, m.range.end + kHeapRoom});
    } else if (m.name == "[stack]") {
      request.avoid.push_back({m.range.start - kStackRoom, m.range.end});
    }
  }
  request.avoid.push_back({module.range.end, module.range.end + kHeapRoom});
  auto base = link::choose_place(request);
  if (!base) {  // it need not reach what it does not use (gigabytes of .bss, say)
    request.target = link::used_range(patch);
    base = link::choose_place(request);
  }
  if (!base) {
    report.refuse(
        "no-room", module.path,
        fmt::format("no {} KiB are free within 2 GiB of what they refer to, {:#x} to {:#x}{}",
                    request.size / 1024, module.bias(request.target.start).value,
                    module.bias(request.target.end).value,
                    request.low_2g ? " and below 2 GiB" : ""));
  }
  return base;
}

Registry make_registry(const Plan& plan, const format::Patch& patch) {
  LoadBias bias = plan.module().bias;
  auto live = [&](LinkRange r) { return LiveRange{bias(r.start), bias(r.end)}; };
  Registry r;
  r.state = State::Staged;
  r.patch_id = plan.patch_id;
  r.cves = patch.meta.cves;
  r.description = patch.meta.description;
  r.target_name = patch.meta.target_name;
  r.target_build_id = patch.meta.target_build_id;
  r.staged_at = std::time(nullptr);
  r.bias = bias;
  r.may_escape = hands_out_addresses(patch.fresh);
  r.image = live(plan.image.range);
  for (size_t i = 0; i < patch.replaced.size(); ++i) {
    const format::Replaced& f = patch.replaced[i];
    RegistryDetour d{.function = f.name, .file = f.file, .saved = Bytes(5), .jump = Bytes(5)};
    d.island = RegistryDetour::Island{LiveAddr(0), Bytes(5), Bytes(5)};  // room for it
    d.entry = bias(f.entry);
    for (LinkRange range : f.ranges) {
      d.old_code.push_back(live(range));
    }
    if (i < plan.detours.size()) {  // known once the image is linked
      d.at = bias(plan.detours[i].at);
      d.saved = plan.detours[i].expected;
      d.jump = plan.detours[i].jump;
      d.island.reset();
      if (const auto& island = plan.detours[i].island) {
        d.island = RegistryDetour::Island{bias(island->at), island->expected, island->jump};
      }
      d.new_code = live(plan.image.new_functions[i].range);
    }
    r.detours.push_back(std::move(d));
  }
  return r;
}

// The values that differ per process, and the registry.
void plan_writes(const ImportResolver& resolver, const format::Patch& patch, Plan& plan,
                 Report& report) {
  LoadBias bias = plan.module().bias;
  for (const link::Fill& fill : plan.image.fills) {
    uint64_t value = 0;
    if (fill.kind == link::Fill::Kind::Address) {
      value = bias(fill.address).value;
    } else {
      auto address = resolver.resolve(patch.fresh.symbols[fill.import],
                                      patch.fresh_bindings[fill.import], report);
      if (!address) {
        continue;
      }
      value = address->value + static_cast<uint64_t>(fill.addend);
    }
    Bytes bytes;
    append(bytes, value);
    plan.writes.push_back({bias(fill.at), std::move(bytes)});
  }
  Bytes registry = encode_registry(plan.registry);
  QP_ASSERT(registry.size() <= plan.image.registry.size());
  plan.writes.push_back({plan.registry_at, std::move(registry)});
}

}  // namespace

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

std::optional<Plan> make_plan(const proc::Process& process, const format::Patch& made,
                              Report& report) {
  Plan plan;
  plan.patch_id = made.id();
  plan.modules = process.modules();
  const auto found = find_target(process, plan.modules, made, report);
  if (!found) {
    return std::nullopt;
  }
  plan.target = *found;
  const proc::Module& module = plan.module();
  const auto symbols = match::SymbolMap::from_file(*module.file);
  const ModuleReader reader(process.memory(), module.bias);
  match::Target target{reader, symbols, module.file->tls_block_end()};
  target.live_bias = module.bias;

  std::optional<format::Patch> rebound;
  if (module.build_id != made.meta.target_build_id) {
    Report there;
    rebound = rebind(made, target, module.build_id, there);
    for (const Refusal& refusal : there.refusals()) {
      report.refuse(
          refusal.id, refusal.where,
          fmt::format("in another build ({}): {}",
                      module.build_id.empty() ? "no build-id" : module.build_id.substr(0, 8),
                      refusal.detail));
    }
    if (!rebound) {
      return std::nullopt;
    }
  }
  const format::Patch& patch = rebound ? *rebound : made;
  check_other_patches(process, patch, module.bias, report);
  if (!report.clean()) {
    return std::nullopt;
  }
  ImportResolver resolver(process, plan.modules, module);
  if (module.file->is_library()) {
    resolver.check_interposition(patch, report);
  }
  prove(process, module, target, patch, report);
  check_mappings(process.mappings(), module.bias, patch, report);
  if (!report.clean()) {
    return std::nullopt;
  }
  uint64_t room = registry_room(make_registry(plan, patch));
  auto base = kept_base(process, plan, link::image_size(patch, room));
  plan.reuse = base.has_value();
  if (!base) {
    base = choose_base(process, plan, patch, room, report);
  }
  if (!base) {
    return std::nullopt;
  }
  plan.image = link::link_image(patch, *base, room, report);
  if (!report.clean()) {
    return std::nullopt;
  }
  plan_detours(process, target, patch, plan, report);
  if (!report.clean()) {
    return std::nullopt;
  }
  plan.registry = make_registry(plan, patch);
  plan.registry_at = module.bias(plan.image.registry.start);
  plan_writes(resolver, patch, plan, report);
  if (!report.clean()) {
    return std::nullopt;
  }
  return plan;
}

}  // namespace qp::apply
