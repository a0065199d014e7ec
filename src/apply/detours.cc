// Where the jumps go in a process, and who may not be there when they are written.
//
// The bytes of a jump may be a target of other jumps: code of the function that goes on running (a
// thread that was allowed to finish it, a suspended context) and jumps back to its entry, or returns
// there from a call, would run into the middle. Such functions are closed as a whole, or refused.
//
// Several patches share a target's padding: what another one has written there is taken.

#include "apply/detours.h"

#include <fmt/format.h>

#include "apply/contexts.h"
#include "apply/registries.h"
#include "insn/instruction.h"
#include "match/padding.h"

namespace qp::apply {
namespace {

constexpr size_t kEntryCode = 64;

Bytes read_code(const proc::Process& process, LiveAddr at, size_t size) {
  Bytes code(size);
  code.resize(process.memory().read_some(at, code));
  return code;
}

// Whether code of the function, which may go on running, jumps to where the detour is.
bool jumps_to(LiveRange detour, const proc::Process& process, const std::vector<LiveRange>& code) {
  for (const LiveRange range : code) {
    const Bytes bytes = read_code(process, range.start, range.size());
    for (uint64_t at = 0; at < bytes.size();) {
      const auto found = insn::decode(bytes, at);
      if (!found) {
        return true;  // who knows
      }
      if (const auto to = found->branch_target(); to && !found->is_call) {
        const LiveAddr target = range.start + at + static_cast<uint64_t>(*to);
        if (detour.contains(target)) {
          return true;
        }
      }
      at += found->length;
    }
  }
  return false;
}

// Whether a call at the entry of the function returns into the middle of the jump. On the stack of a
// thread that is seen while everything stands still; a context that is suspended in that call may
// have come after the look at the memory, and would run into the rest of the jump.
bool returns_into(LiveRange detour, LiveAddr entry, ByteView code) {
  for (LiveAddr at = entry; at < detour.end;) {
    const auto found = insn::decode(code, static_cast<uint64_t>(at - entry));
    if (!found) {
      return true;
    }
    at += found->length;
    if (found->is_call && detour.start < at && at < detour.end) {
      return true;
    }
  }
  return false;
}

// What other patches have written in the target, and may not be written over.
std::vector<LinkRange> written_by_others(const proc::Process& process, const proc::Module& module) {
  std::vector<LinkRange> out;
  for (const FoundRegistry& found : find_registries(process)) {
    if (!found.registry || found.registry->state != State::Applied) {
      continue;
    }
    for (const RegistryDetour& d : found.registry->detours) {
      for (const RegistryDetour::Written& w : d.written()) {
        out.push_back({module.bias(w.range().start), module.bias(w.range().end)});
      }
    }
  }
  return out;
}

// The code of a replaced function is where nobody may be; that of its detour nobody at all.
void close_old_code(const proc::Process& process, const match::SymbolMap& symbols,
                    const format::Replaced& f, const link::Detour& detour, bool contexts,
                    PartPlan& plan, Report& report) {
  const proc::Module& module = plan.module;
  std::vector<LiveRange> old_code;
  for (LinkRange r : f.ranges) {
    old_code.push_back({module.bias(r.start), module.bias(r.end)});
    plan.starts.push_back(module.bias(r.start));
    if (symbols.next_start_after(r.start, r.size()) == r.end) {
      plan.starts.push_back(module.bias(r.end));
    }
  }
  for (const LinkRange written : link::overwritten_by(detour)) {
    const LiveRange jump{module.bias(written.start), module.bias(written.end)};
    plan.unsafe.push_back(jump);
    if (jumps_to(jump, process, old_code)) {
      plan.unsafe.insert(plan.unsafe.end(), old_code.begin(), old_code.end());
    }
  }
  const LiveAddr at = module.bias(detour.at), entry = module.bias(f.entry);
  if (contexts &&
      returns_into({at, at + detour.jump.size()}, entry, read_code(process, entry, kEntryCode))) {
    report.refuse("call-at-entry", f.name,
                  fmt::format("a call in its first bytes, at {:#x}, returns into the jump, and "
                              "the process can have suspended contexts",
                              f.entry.value));
  }
  plan.old_code.insert(plan.old_code.end(), old_code.begin(), old_code.end());
}

std::vector<link::Spare> find_spares(const match::Target& target, LinkAddr jump, uint64_t size) {
  std::vector<link::Spare> out;
  for (match::Padding& padding :
       match::find_padding(target, match::in_reach_of_short_jump(jump, size), size)) {
    out.push_back({padding.at, std::move(padding.bytes)});
  }
  return out;
}

}  // namespace

void plan_detours(const proc::Process& process, const match::Target& target,
                  const format::Patch& patch, PartPlan& plan, Report& report) {
  const link::TargetText text{
      [&](LinkAddr at, size_t size) { return read_code(process, plan.module.bias(at), size); },
      [&](LinkAddr at, uint64_t size) { return target.symbols.next_start_after(at, size); },
      [&](LinkAddr jump, uint64_t size) { return find_spares(target, jump, size); }};
  plan.detours =
      link::plan_detours(patch, plan.image, text, written_by_others(process, plan.module), report);
  const bool contexts = makes_contexts(process);
  for (size_t i = 0; report.clean() && i < plan.detours.size(); ++i) {
    close_old_code(process, target.symbols, patch.replaced[i], plan.detours[i], contexts, plan,
                   report);
  }
}

}  // namespace qp::apply
