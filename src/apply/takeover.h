// A patch that was about to take the place of others when its run was interrupted.
#pragma once

#include <vector>

#include "apply/registries.h"
#include "apply/switch.h"
#include "proc/process.h"

namespace qp::apply {

struct Takeover {
  std::vector<FoundRegistry> yielding;  // all images of the others, of which one says so at least
  Group successor;
};

// Throws Refused{registry-damaged}: one makes room for nobody, or for several.
std::vector<Takeover> find_takeovers(const std::vector<Group>& groups);
bool takes_part(const std::vector<Takeover>& takeovers, const Group& group);

// The writes that bring back the detours of those that were superseded, where these are not there.
struct WayBack {
  std::vector<CodeWrite> writes;
  bool whole = false;  // none of them is there: all code is the successor's
};
// Throws Refused{registry-damaged} for a registry that lies, and for code that is neither's.
WayBack find_way_back(const proc::Process& process, const std::vector<proc::Module>& modules,
                      const Takeover& takeover);

// What recover does about a takeover: back to those that were superseded, or forth, which is to say that it
// is done. `interrupted`: a registry of the successor says that something is under way; `whole`: all code is
// the successor's.
enum class Way { Back, Forth };
Way way_on(bool interrupted, bool whole);

}  // namespace qp::apply
