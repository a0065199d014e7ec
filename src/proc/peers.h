// Processes that share the memory of a process without being its threads.
#pragma once

#include <cstdint>
#include <optional>

#include <sys/types.h>

#include "base/fd.h"

namespace qp::proc {

// Nothing here stops anybody. Freezing a process does not stop such a peer.
class PeerSearch {
 public:
  explicit PeerSearch(pid_t pid) : pid_(pid) {}
  // A process with the same memory; nullopt: there is none (or the process is gone). The first call
  // looks at all processes; after one that found none, only at those that were made since, so that
  // it can be called while the process stands still. Throws Error{system}.
  std::optional<pid_t> find();

 private:
  std::optional<pid_t> find_among_all() const;
  bool is_peer(pid_t own, pid_t other) const;

  pid_t pid_;
  Fd last_made_;
  std::optional<uint64_t> alone_at_;  // the newest number when nobody was found
};

}  // namespace qp::proc
