// What can be seen of a process from outside, taken before and after, to show that it was left as
// it was found.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace qp::live {

struct MappedRange {
  uint64_t start = 0, end = 0;
  std::string rights;  // "r-xp"
  std::string name;
};

struct Snapshot {
  std::vector<MappedRange> mappings;
  std::map<uint64_t, std::string> text;        // bytes of each r-x mapping of a file, by start
  std::map<std::string, std::string> files;    // open descriptors: number -> what
  std::map<std::string, std::string> threads;  // tid -> signal masks, pending signals, handlers
  std::map<std::string, std::string> facts;    // status, limits, timers …, but for what varies
  std::string state;                           // "S (sleeping)"
  int tracer = 0;
};

Snapshot take_snapshot(pid_t pid);

// Differences that a process must not show after a revert, or after a command that changed nothing;
// empty: none. `kept` says that the image may stay mapped, because qpatch said so.
std::string left_behind(const Snapshot& before, const Snapshot& after, bool kept = false);

// Differences that a patched process must not show: text changed other than by one 5-byte jump per
// replaced function into memory that was not mapped before, pages writable and executable.
std::string wrongly_applied(const Snapshot& before, const Snapshot& after, size_t functions);

}  // namespace qp::live
