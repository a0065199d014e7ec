// Every kind of system call that a thread sleeps in, with what ends it.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include <sys/types.h>

namespace qp::test {

struct BlockingCall {
  std::string name;
  long number = 0;                                   // SYS_*
  std::function<long()> body;                        // in the victim: result or −errno; blocks
  std::function<void(pid_t pid, pid_t tid)> finish;  // in the test; empty: ends by its timeout
  long expected = 0;
  bool keeps_time = false;  // its timeout passes at the same time, interrupted or not
};

// Made before the victim is forked, since both use the same descriptors. Calls that this kernel
// does not have are left out.
std::vector<BlockingCall> blocking_calls();

// Parts of it: on files, pipes, terminals and locks; on sockets; on everything else by its timeout.
void add_file_calls(std::vector<BlockingCall>& out);
void add_socket_calls(std::vector<BlockingCall>& out);
void add_timed_calls(std::vector<BlockingCall>& out);

// How often each is disturbed: $QPATCH_ROUNDS (bench/manners), else what a test has time for.
int rounds(int usual);

long result(long n);      // of a libc function: itself, or −errno
void ignore_signal(int);  // a handler that does nothing

}  // namespace qp::test
