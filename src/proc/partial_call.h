// System calls that lose something when they are interrupted, although no signal comes.
#pragma once

#include <chrono>
#include <optional>
#include <string_view>

#include "proc/process.h"

namespace qp::proc {

// A thread that sleeps in a call which may have done a part of its work already: interrupted, it
// returns that part. Nullopt: none.
std::optional<pid_t> find_partial_call(const Process& process);

// Waits until there is none. False if `deadline` came first.
bool await_whole_calls(const Process& process, std::chrono::steady_clock::time_point deadline);

// Whether interrupting this thread costs it something: it is in a partial call, or in a wait whose
// timeout starts again in full.
bool in_sensitive_call(pid_t pid, pid_t tid);

// Of what /proc/PID/task/TID/syscall says ("running", or numbers).
bool is_partial_call(std::string_view text);
// A wait whose timeout counts from its start, and that the kernel never restarts by itself.
bool is_timed_call(std::string_view text);

}  // namespace qp::proc
