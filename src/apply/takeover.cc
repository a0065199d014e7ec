// Which patch is it to be?
//
// A run that puts one patch in the place of others writes `committing` into the registries of the new
// one, then `yielding` into those of the others, then code, then `applied`, then `reverted`
// (commit.cc). On the way back, from a failure or by `recover`, those of the others are `applied` before
// the new one is `reverted`. So whoever finds `yielding` knows both, and from what the new one says and
// from the code, which way is the shorter. The new one is known by its registry, which names those whose
// place it takes.

#include "apply/takeover.h"

#include <algorithm>
#include <map>

#include <fmt/format.h>

#include "apply/superseded.h"
#include "apply/undo.h"
#include "base/report.h"

namespace qp::apply {
namespace {

bool has_state(const Group& group, State state) {
  return std::any_of(group.begin(), group.end(),
                     [&](const FoundRegistry& found) { return found.registry->state == state; });
}

// The one whose registry says that it supersedes those. A process holds one at most, as the next command
// finishes what was begun; where it holds none or several, somebody else wrote there.
const Group* find_successor(const std::vector<Group>& groups, const std::string& patch_id) {
  const Group* out = nullptr;
  for (const Group& group : groups) {
    const Registry& r = *group.front().registry;
    const auto& ids = r.supersedes;
    if (has_state(group, State::Reverted) ||
        std::find(ids.begin(), ids.end(), patch_id) == ids.end()) {
      continue;
    }
    if (out != nullptr) {
      throw Refused({{"registry-damaged", patch_id,
                      fmt::format("it makes room for {} and for {}",
                                  out->front().registry->patch_id, r.patch_id)}});
    }
    out = &group;
  }
  if (out == nullptr) {
    throw Refused(
        {{"registry-damaged", patch_id, "it makes room, and no patch says that it comes"}});
  }
  return out;
}

std::vector<CodeWrite> writes_in(const proc::Process& process,
                                 const std::vector<proc::Module>& modules,
                                 const std::vector<FoundRegistry>& registries) {
  std::vector<CodeWrite> out;
  for (const FoundRegistry& found : registries) {
    const Registry& r = *found.registry;
    const proc::Module* module = find_module(modules, r);
    if (module == nullptr) {
      continue;  // unloaded since
    }
    if (auto faults = find_faults(process, module, r, Expected::Anything); !faults.empty()) {
      throw Refused({{"registry-damaged", r.patch_id, faults.front()}});
    }
    for (CodeWrite& write : writes_of(r)) {
      out.push_back(std::move(write));
    }
  }
  return out;
}

}  // namespace

Way way_on(bool interrupted, bool whole) {
  return whole && !interrupted ? Way::Forth : Way::Back;
}

std::vector<Takeover> find_takeovers(const std::vector<Group>& groups) {
  std::map<const Group*, Takeover> by_successor;
  for (const Group& group : groups) {
    if (has_state(group, State::Yielding)) {
      const Group* successor = find_successor(groups, group.front().registry->patch_id);
      Takeover& takeover = by_successor[successor];
      takeover.successor = *successor;
      takeover.yielding.insert(takeover.yielding.end(), group.begin(), group.end());
    }
  }
  std::vector<Takeover> out;
  for (auto& [successor, takeover] : by_successor) {
    out.push_back(std::move(takeover));
  }
  return out;
}

bool takes_part(const std::vector<Takeover>& takeovers, const Group& group) {
  return std::any_of(takeovers.begin(), takeovers.end(), [&](const Takeover& takeover) {
    return is_one_of(takeover.yielding, group.front()) ||
           is_one_of(takeover.successor, group.front());
  });
}

WayBack find_way_back(const proc::Process& process, const std::vector<proc::Module>& modules,
                      const Takeover& takeover) {
  const std::vector<CodeWrite> all =
      backwards(exchange(writes_in(process, modules, takeover.yielding),
                         writes_in(process, modules, takeover.successor)));
  WayBack out;
  size_t whole = 0;
  for (const CodeWrite& write : all) {
    Bytes have(write.expected.size());
    have.resize(process.memory().read_some(write.at, have));
    if (have == write.expected) {
      out.writes.push_back(write);
      ++whole;
    } else if (have == write.wanted) {
      continue;
    } else if (is_cut(write.at, have, write.expected, write.wanted)) {
      out.writes.push_back({write.function, write.at, have, write.wanted});
    } else {
      throw Refused({{"registry-damaged", takeover.successor.front().registry->patch_id,
                      fmt::format("{} at {:#x} holds {}, which is neither patch's", write.function,
                                  write.at.value, hex(have))}});
    }
  }
  out.whole = whole == all.size();
  return out;
}

}  // namespace qp::apply
