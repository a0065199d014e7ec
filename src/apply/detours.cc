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

Bytes read_code(const match::Target& target, LinkAddr at, size_t size) {
  Bytes code(size);
  code.resize(target.memory.read_some(at, code));
  return code;
}

// Whether code of the function, which may go on running, jumps to where the detour is.
bool jumps_to(LinkRange detour, const match::Target& target, const std::vector<LinkRange>& code) {
  for (const LinkRange range : code) {
    const Bytes bytes = read_code(target, range.start, range.size());
    for (uint64_t at = 0; at < bytes.size();) {
      const auto found = insn::decode(bytes, at);
      if (!found) {
        return true;  // who knows
      }
      if (const auto to = found->branch_target(); to && !found->is_call) {
        if (detour.contains(range.start + at + static_cast<uint64_t>(*to))) {
          return true;
        }
      }
      at += found->length;
    }
  }
  return false;
}

// Whether somebody may return to what is behind the code: its last instruction is a call, of a function
// that does not return. (ld.so has a pointer to the end of all code, and debuggers have others.)
bool returns_to_end(const match::Target& target, LinkRange code) {
  const Bytes bytes = read_code(target, code.start, code.size());
  for (uint64_t at = 0; at < bytes.size();) {
    const auto found = insn::decode(bytes, at);
    if (!found) {
      break;
    }
    at += found->length;
    if (at == bytes.size()) {
      return found->is_call;
    }
  }
  return true;
}

// Whether a call at the entry of the function returns into the middle of the jump. On the stack of a
// thread that is seen while everything stands still; a context that is suspended in that call may
// have come after the look at the memory, and would run into the rest of the jump.
bool returns_into(LinkRange detour, LinkAddr entry, ByteView code) {
  for (LinkAddr at = entry; at < detour.end;) {
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

// What patches have written in the target that is mapped with `bias`, and may not be written over. Not
// even by those that make room: an island over the jump of a function that gets its own code back would
// be there before that jump is gone.
std::vector<LinkRange> written_by_patches(const proc::Process& process, LoadBias bias) {
  std::vector<LinkRange> out;
  for (const FoundRegistry& found : find_registries(process)) {
    if (!found.registry || found.registry->state != State::Applied) {
      continue;
    }
    for (const RegistryDetour& d : found.registry->detours) {
      for (const RegistryDetour::Written& w : d.written()) {
        out.push_back({bias(w.range().start), bias(w.range().end)});
      }
    }
  }
  return out;
}

// The code of a replaced function is where nobody may be; that of its detour nobody at all.
void close_old_code(const match::Target& target, const format::Replaced& f,
                    const link::Detour& detour, bool contexts, PartPlan& plan, Report& report) {
  const proc::Module& module = plan.module;
  std::vector<LiveRange> old_code;
  for (LinkRange r : f.ranges) {
    old_code.push_back({module.bias(r.start), module.bias(r.end)});
    plan.starts.push_back(module.bias(r.start));
    if (target.symbols.next_start_after(r.start, r.size()) == r.end || !returns_to_end(target, r)) {
      plan.starts.push_back(module.bias(r.end));
    }
  }
  for (const LinkRange written : link::overwritten_by(detour)) {
    plan.unsafe.push_back({module.bias(written.start), module.bias(written.end)});
    if (jumps_to(written, target, f.ranges)) {
      plan.unsafe.insert(plan.unsafe.end(), old_code.begin(), old_code.end());
    }
  }
  if (contexts && returns_into({detour.at, detour.at + detour.jump.size()}, f.entry,
                               read_code(target, f.entry, kEntryCode))) {
    report.refuse("call-at-entry", f.name,
                  fmt::format("a call in its first bytes, at {:#x}, returns into the jump, and "
                              "the process can have suspended contexts",
                              f.entry.value));
  }
  plan.old_code.insert(plan.old_code.end(), old_code.begin(), old_code.end());
}

// The island that the function had before serves it again.
std::optional<link::Spare> find_own_island(const Superseded& superseded, LiveAddr jump,
                                           LoadBias bias) {
  for (const FoundRegistry& found : superseded.registries()) {
    for (const RegistryDetour& d : found.registry->detours) {
      if (d.island && d.at == jump) {
        return link::Spare{bias(d.island->at), d.island->saved};
      }
    }
  }
  return std::nullopt;
}

std::vector<link::Spare> find_spares(const match::Target& target, LinkRange window, uint64_t size) {
  std::vector<link::Spare> out;
  for (match::Padding& padding : match::find_padding(target, window, size)) {
    out.push_back({padding.at, std::move(padding.bytes)});
  }
  return out;
}

}  // namespace

void plan_detours(const proc::Process& process, const match::Target& target,
                  const Superseded& superseded, const format::Patch& patch, PartPlan& plan,
                  Report& report) {
  const LoadBias bias = plan.module.bias;
  const link::TargetText text{
      [&](LinkAddr at, size_t size) { return read_code(target, at, size); },
      [&](LinkAddr at, uint64_t size) { return target.symbols.next_start_after(at, size); },
      [&](LinkRange window, uint64_t size) { return find_spares(target, window, size); },
      [&](LinkAddr jump) { return find_own_island(superseded, bias(jump), bias); }, bias};
  plan.detours =
      link::plan_detours(patch, plan.image, text, written_by_patches(process, bias), report);
  const bool contexts = makes_contexts(process);
  for (size_t i = 0; report.clean() && i < plan.detours.size(); ++i) {
    close_old_code(target, patch.replaced[i], plan.detours[i], contexts, plan, report);
  }
}

}  // namespace qp::apply
