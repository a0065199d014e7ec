// "The process can't tell that it was touched" (P4), "no byte outside the detours and the image is
// changed" (P5) and "after a revert the code bytes are those from before" (P9) are promises about
// everything, so the check must look at everything and not at what qpatch reports: all executable
// pages of all modules byte by byte, all descriptors, the signal state of all threads, limits, timers
// and rights, whether someone still traces the process, and which mappings came and stayed.
//
// Heap, stacks and anonymous data are the process's own business and change while it works; they
// are left out. A thread may be born or die meanwhile only in victims that do so themselves.

#include "harness/snapshot.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <set>
#include <sstream>

namespace qp::live {

namespace {

std::string hex_number(uint64_t value) {
  char text[32];
  std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(value));
  return text;
}

std::vector<std::string> entries(const std::string& directory) {
  std::vector<std::string> names;
  DIR* handle = opendir(directory.c_str());
  if (handle == nullptr) {
    return names;
  }
  while (const dirent* entry = readdir(handle)) {
    if (entry->d_name[0] != '.') {
      names.emplace_back(entry->d_name);
    }
  }
  closedir(handle);
  return names;
}

std::string status_field(const std::string& path, const std::string& key) {
  std::ifstream in(path);
  std::string line;
  while (std::getline(in, line)) {
    if (line.starts_with(key + ":")) {
      const size_t at = line.find_first_not_of(" \t", key.size() + 1);
      return at == std::string::npos ? "" : line.substr(at);
    }
  }
  return "";
}

std::vector<MappedRange> read_mappings(const std::string& base) {
  std::vector<MappedRange> mappings;
  std::ifstream in(base + "maps");
  std::string line;
  while (std::getline(in, line)) {
    unsigned long long start = 0;
    unsigned long long end = 0;
    char rights[8] = {};
    int name_at = 0;
    std::sscanf(line.c_str(), "%llx-%llx %7s %*s %*s %*s %n", &start, &end, rights, &name_at);
    mappings.push_back({start, end, rights, line.substr(static_cast<size_t>(name_at))});
  }
  return mappings;
}

// Where maps, mem and fd show something: a dead leader has none.
std::string living_task(const std::string& base) {
  for (const std::string& tid : entries(base + "task")) {
    const std::string task = base + "task/" + tid + "/";
    if (status_field(task + "status", "State").find("zombie") == std::string::npos) {
      return task;
    }
  }
  return base;
}

// What the kernel says of a process for as long as nobody changes it. Left out is what work
// changes: memory in use, switches, signals on their way (they are compared per thread), threads.
// FDSize is the room of the descriptor table, which grows for a descriptor that comes and goes.
std::map<std::string, std::string> read_facts(const std::string& base) {
  static const std::set<std::string> varying = {"State",
                                                "TracerPid",
                                                "FDSize",
                                                "Threads",
                                                "SigQ",
                                                "SigPnd",
                                                "ShdPnd",
                                                "SigBlk",
                                                "SigCgt",
                                                "voluntary_ctxt_switches",
                                                "nonvoluntary_ctxt_switches"};
  std::map<std::string, std::string> facts;
  std::ifstream status(base + "status");
  for (std::string line; std::getline(status, line);) {
    const std::string key = line.substr(0, line.find(':'));
    const bool memory = key.starts_with("Vm") || key.starts_with("Rss") || key == "HugetlbPages";
    if (!memory && varying.count(key) == 0) {
      facts[key] = line;
    }
  }
  for (const char* name : {"limits", "timers", "timerslack_ns", "personality", "coredump_filter",
                           "oom_score_adj", "cgroup", "comm", "loginuid", "setgroups"}) {
    std::ifstream in(base + name);
    facts[name] = std::string(std::istreambuf_iterator<char>(in), {});
  }
  // The owner of these files is root when the process is not dumpable.
  struct stat st {};
  stat((base + "fd").c_str(), &st);
  facts["owner"] = std::to_string(st.st_uid);
  return facts;
}

std::string describe(const MappedRange& m) {
  return hex_number(m.start) + "-" + hex_number(m.end) + " " + m.rights + " " + m.name;
}

bool same_place(const MappedRange& a, const MappedRange& b) {
  return a.start == b.start && a.end == b.end && a.rights == b.rights && a.name == b.name;
}

bool was_there(const Snapshot& snapshot, const MappedRange& mapping) {
  for (const MappedRange& m : snapshot.mappings) {
    if (same_place(m, mapping)) {
      return true;
    }
  }
  return false;
}

// What the process did not make itself: heap and stack grow, and threads get stacks and arenas from
// anonymous memory; a process of one thread does not.
bool is_remarkable(const MappedRange& m, const Snapshot& of) {
  if (m.rights.find('x') != std::string::npos || m.name.find("qpatch") != std::string::npos) {
    return true;
  }
  return m.name.empty() ? of.threads.size() == 1 : m.name.front() != '[';
}

constexpr size_t kFarJump = 14;

bool executable_and_new(const Snapshot& before, const Snapshot& after, uint64_t address) {
  for (const MappedRange& m : after.mappings) {
    if (m.start <= address && address < m.end) {
      return m.rights.find('x') != std::string::npos && !was_there(before, m);
    }
  }
  return false;
}

// Whether there is a jump at `from` through the address behind it, which leads to new code.
bool is_far_jump(const Snapshot& before, const Snapshot& after, const std::string& text,
                 size_t from) {
  if (from >= text.size() || from + kFarJump > text.size() ||
      text.compare(from, 6, std::string("\xff\x25\0\0\0\0", 6)) != 0) {
    return false;
  }
  uint64_t to = 0;
  std::memcpy(&to, text.data() + from + 6, sizeof to);
  return executable_and_new(before, after, to);
}

bool is_in_far_jump(const Snapshot& before, const Snapshot& after, const std::string& text,
                    size_t at) {
  for (size_t back = 0; back < kFarJump && back <= at; ++back) {
    if (is_far_jump(before, after, text, at - back)) {
      return true;
    }
  }
  return false;
}

// The start of the jump that covers `at`, or npos.
size_t jump_over(const Snapshot& before, const Snapshot& after, uint64_t start,
                 const std::string& text, size_t at) {
  for (size_t back = 0; back < 5 && back <= at; ++back) {
    const size_t from = at - back;
    if (from + 5 > text.size() || static_cast<unsigned char>(text[from]) != 0xe9) {  // jmp rel32
      continue;
    }
    int32_t distance = 0;
    std::memcpy(&distance, text.data() + from + 1, sizeof distance);
    const size_t to = from + 5 + static_cast<size_t>(static_cast<int64_t>(distance));
    if (executable_and_new(before, after, start + to) || is_far_jump(before, after, text, to)) {
      return from;
    }
  }
  return std::string::npos;
}

// Whether `at` is in a jmp rel8 that leads to such a jump.
bool is_short_jump(const Snapshot& before, const Snapshot& after, uint64_t start,
                   const std::string& text, size_t at) {
  for (size_t from = at == 0 ? 0 : at - 1; from <= at && from + 2 <= text.size(); ++from) {
    if (static_cast<unsigned char>(text[from]) != 0xeb) {
      continue;
    }
    const size_t to = from + 2 + static_cast<size_t>(static_cast<int8_t>(text[from + 1]));
    if (to < text.size() &&
        (is_far_jump(before, after, text, to) || jump_over(before, after, start, text, to) == to)) {
      return true;
    }
  }
  return false;
}

template <class Map>
void compare_maps(const char* what, const Map& before, const Map& after, std::string& out) {
  for (const auto& [key, value] : before) {
    const auto found = after.find(key);
    if (found == after.end()) {
      out += std::string(what) + " " + key + " is gone (" + value + ")\n";
    } else if (found->second != value) {
      out += std::string(what) + " " + key + " was " + value + " and is " + found->second + "\n";
    }
  }
  for (const auto& [key, value] : after) {
    if (before.find(key) == before.end()) {
      out += std::string(what) + " " + key + " is new (" + value + ")\n";
    }
  }
}

}  // namespace

Snapshot take_snapshot(pid_t pid) {
  const std::string base = "/proc/" + std::to_string(pid) + "/";
  Snapshot s;
  s.state = status_field(base + "status", "State");
  s.tracer = std::atoi(status_field(base + "status", "TracerPid").c_str());
  s.facts = read_facts(base);
  const std::string living = living_task(base);
  s.mappings = read_mappings(living);
  const int memory = open((living + "mem").c_str(), O_RDONLY | O_CLOEXEC);
  for (const MappedRange& m : s.mappings) {
    if (m.rights.starts_with("r-x") && m.name.starts_with("/")) {
      std::string bytes(m.end - m.start, '\0');
      const ssize_t got = pread(memory, bytes.data(), bytes.size(), static_cast<off_t>(m.start));
      bytes.resize(got > 0 ? static_cast<size_t>(got) : 0);
      s.text[m.start] = std::move(bytes);
    }
  }
  close(memory);
  for (const std::string& fd : entries(living + "fd")) {
    char target[4096];
    const ssize_t size = readlink((living + "fd/" + fd).c_str(), target, sizeof target);
    s.files[fd] = std::string(target, size > 0 ? static_cast<size_t>(size) : 0);
  }
  for (const std::string& tid : entries(base + "task")) {
    const std::string status = base + "task/" + tid + "/status";
    std::string signals;
    for (const char* key : {"SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt"}) {
      signals += std::string(key) + "=" + status_field(status, key) + " ";
    }
    s.threads[tid] = signals;
  }
  return s;
}

std::string left_behind(const Snapshot& before, const Snapshot& after, bool kept) {
  std::string out;
  if (after.tracer != 0) {
    out += "still traced by " + std::to_string(after.tracer) + "\n";
  }
  if (after.state.starts_with("T") || after.state.starts_with("t")) {
    out += "the process is stopped: " + after.state + "\n";
  }
  compare_maps("descriptor", before.files, after.files, out);
  compare_maps("thread", before.threads, after.threads, out);
  compare_maps("fact", before.facts, after.facts, out);
  for (const auto& [start, bytes] : before.text) {
    const auto found = after.text.find(start);
    if (found == after.text.end()) {
      out += "text at " + hex_number(start) + " is gone\n";
    } else if (found->second != bytes) {
      size_t at = 0;
      while (at < bytes.size() && at < found->second.size() && bytes[at] == found->second[at]) {
        ++at;
      }
      out += "text differs at " + hex_number(start + at) + "\n";
    }
  }
  for (const MappedRange& m : after.mappings) {
    if (!kept && is_remarkable(m, after) && !was_there(before, m)) {
      out += "mapping left: " + describe(m) + "\n";
    }
  }
  for (const MappedRange& m : before.mappings) {
    if (is_remarkable(m, before) && !was_there(after, m)) {
      out += "mapping gone: " + describe(m) + "\n";
    }
  }
  return out;
}

std::string wrongly_applied(const Snapshot& before, const Snapshot& after, size_t functions) {
  std::string out;
  for (const MappedRange& m : after.mappings) {
    if (m.rights.find('w') != std::string::npos && m.rights.find('x') != std::string::npos) {
      out += "writable and executable: " + describe(m) + "\n";
    }
  }
  size_t jumps = 0;
  for (const auto& [start, old_text] : before.text) {
    const auto found = after.text.find(start);
    if (found == after.text.end() || found->second.size() != old_text.size()) {
      out += "text at " + hex_number(start) + " is gone or has another size\n";
      continue;
    }
    const std::string& text = found->second;
    for (size_t at = 0; at < text.size();) {
      if (text[at] == old_text[at]) {
        ++at;
        continue;
      }
      const size_t jump = jump_over(before, after, start, text, at);
      if (jump == std::string::npos && (is_short_jump(before, after, start, text, at) ||
                                        is_in_far_jump(before, after, text, at))) {
        ++at;
        continue;
      }
      if (jump == std::string::npos) {
        out += "changed byte that is no detour at " + hex_number(start + at) + "\n";
        break;
      }
      ++jumps;
      at = jump + 5;
    }
  }
  if (jumps != functions) {
    out += std::to_string(jumps) + " jumps in the text, " + std::to_string(functions) +
           " functions listed\n";
  }
  return out;
}

}  // namespace qp::live
