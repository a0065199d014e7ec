// No process is worked on while another one shares its memory (proc/peers.h).
#pragma once

#include <chrono>

#include <sys/types.h>

namespace qp::apply {

// Waits until nobody does. Throws Refused{memory-shared} at the deadline, which names the other.
// Before the process is opened: the child of a vfork that calls exec has other memory then.
void wait_until_alone(pid_t pid, std::chrono::milliseconds timeout);

// What wait_until_alone() throws.
[[noreturn]] void refuse_peer(pid_t pid, pid_t peer);

}  // namespace qp::apply
