// /proc/PID/pagemap: one 64-bit entry per page, bit 63 "present", bit 62 "swapped"
// (Linux Documentation/admin-guide/mm/pagemap.rst). The frame numbers, which need privileges, are
// not used.

#include "proc/pagemap.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include <fmt/format.h>

#include "base/error.h"
#include "proc/procfs.h"

namespace qp::proc {
namespace {

constexpr uint64_t kPresentOrSwapped = uint64_t{3} << 62;
constexpr uint64_t kEntriesAtOnce = 65536;

}  // namespace

Pagemap::Pagemap(const Process& process) {
  try {
    file_ = open_file(fmt::format("/proc/{}/pagemap", process.pid()), O_RDONLY);
  } catch (const Error&) {
    // resident() says so
  }
}

std::vector<LiveRange> Pagemap::resident(LiveRange range) const {
  if (!file_) {
    return {range};
  }
  std::vector<LiveRange> out;
  std::vector<uint64_t> entries;
  uint64_t end_page = align_up(range.end.value, kPageSize) / kPageSize;
  for (uint64_t page = range.start.value / kPageSize; page < end_page; page += entries.size()) {
    entries.resize(std::min<uint64_t>(end_page - page, kEntriesAtOnce));
    auto want = static_cast<ssize_t>(entries.size() * sizeof(uint64_t));
    if (pread(file_.get(), entries.data(), static_cast<size_t>(want),
              static_cast<off_t>(page * sizeof(uint64_t))) != want) {
      return {range};
    }
    for (size_t i = 0; i < entries.size(); ++i) {
      if ((entries[i] & kPresentOrSwapped) == 0) {
        continue;
      }
      LiveAddr start(std::max(range.start.value, (page + i) * kPageSize));
      LiveAddr end(std::min(range.end.value, (page + i + 1) * kPageSize));
      if (!out.empty() && out.back().end == start) {
        out.back().end = end;
      } else {
        out.push_back({start, end});
      }
    }
  }
  return out;
}

// "RssAnon:      1234 kB" and "VmSwap:" of /proc/PID/status.
std::optional<uint64_t> anonymous_memory(const Process& process) {
  auto status = read_task_file(process.pid(), process.pid(), "status");
  if (!status) {
    return std::nullopt;
  }
  uint64_t total = 0;
  for (std::string_view name : {"\nRssAnon:", "\nVmSwap:"}) {
    size_t at = status->find(name);
    if (at == std::string::npos) {
      return std::nullopt;
    }
    total += std::strtoull(status->c_str() + at + name.size(), nullptr, 10) * 1024;
  }
  return total;
}

}  // namespace qp::proc
