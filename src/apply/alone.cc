// The child of a vfork runs in its parent's memory until it calls exec, and is a process of its own:
// --all finds it, and a freeze of the parent does not stop it. Mostly it is gone in a moment; so it
// is waited for, and a process that keeps a peer is refused. Who found out here that it is alone can
// get a peer later: the switch looks again while no thread runs (switch.cc).

#include "apply/alone.h"

#include <algorithm>
#include <thread>

#include <fmt/format.h>

#include "base/report.h"
#include "proc/peers.h"
#include "proc/procfs.h"

namespace qp::apply {
namespace {

constexpr auto kPoll = std::chrono::milliseconds(2);

}  // namespace

void refuse_peer(pid_t pid, pid_t peer) {
  std::string name = proc::read_task_file(peer, peer, "comm").value_or("");
  if (name.ends_with('\n')) {
    name.pop_back();
  }
  throw Refused({{"memory-shared", fmt::format("process {}", pid),
                  fmt::format("process {} ({}) runs in the same memory (vfork, posix_spawn or "
                              "CLONE_VM)",
                              peer, proc::printable(name))}});
}

void wait_until_alone(pid_t pid, std::chrono::milliseconds timeout) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  proc::PeerSearch search(pid);
  while (auto peer = search.find()) {
    if (std::chrono::steady_clock::now() >= deadline) {
      refuse_peer(pid, *peer);
    }
    std::this_thread::sleep_for(kPoll);
  }
}

}  // namespace qp::apply
