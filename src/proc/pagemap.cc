// /proc/PID/pagemap, in two ways (Linux Documentation/admin-guide/mm/pagemap.rst). The ioctl
// PAGEMAP_SCAN (v6.7) walks the page tables and skips what is not there: a database, a hypervisor or a
// sanitizer reserves terabytes, and a program may hold a page of them. Older kernels have the file only:
// one 64-bit entry per page, bit 63 "present", bit 62 "swapped"; that is 2 GiB of entries per
// terabyte. The frame numbers, which need privileges, are not used.

#include "proc/pagemap.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <span>

#include <fmt/format.h>

#include "base/error.h"
#include "proc/procfs.h"

namespace qp::proc {
namespace {

constexpr uint64_t kPresentOrSwapped = uint64_t{3} << 62;
constexpr uint64_t kEntriesAtOnce = 65536;

// <linux/fs.h> of v6.7; Debian 12 has an older one.
struct PageRegion {
  uint64_t start, end, categories;
};
struct PagemapScan {
  uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages, category_inverted,
      category_mask, category_anyof_mask, return_mask;
};
constexpr unsigned long kPagemapScan = _IOWR('f', 16, PagemapScan);
constexpr uint64_t kPageIsPresent = 1 << 3, kPageIsSwapped = 1 << 4;
constexpr size_t kRegionsAtOnce = 4096;

// Nullopt: this kernel has no such call, or it failed.
std::optional<std::vector<LiveRange>> scan_pages(int pagemap, LiveRange range) {
  std::vector<LiveRange> out;
  std::vector<PageRegion> regions(kRegionsAtOnce);
  PagemapScan scan{};
  scan.size = sizeof scan;
  scan.start = align_down(range.start.value, kPageSize);
  scan.end = align_up(range.end.value, kPageSize);
  scan.vec = reinterpret_cast<uint64_t>(regions.data());
  scan.vec_len = regions.size();
  scan.category_anyof_mask = kPageIsPresent | kPageIsSwapped;
  scan.return_mask = kPageIsPresent | kPageIsSwapped;
  while (scan.start < scan.end) {
    const int count = ioctl(pagemap, kPagemapScan, &scan);
    if (count < 0 || scan.walk_end <= scan.start) {
      return std::nullopt;
    }
    // A walk that filled the buffer can have ended before its last region does (seen with v6.18).
    for (const PageRegion& r : std::span(regions).first(static_cast<size_t>(count))) {
      const LiveAddr known = out.empty() ? range.start : out.back().end;
      const LiveAddr start(std::max(known.value, r.start));
      const LiveAddr end(std::min(range.end.value, r.end));
      if (!out.empty() && known == start) {
        out.back().end = std::max(known, end);
      } else if (start < end) {
        out.push_back({start, end});
      }
    }
    scan.start = scan.walk_end;
  }
  return out;
}

}  // namespace

Pagemap::Pagemap(const Process& process) {
  try {
    const pid_t tid = find_live_task(process.pid()).value_or(process.pid());
    file_ = open_file(fmt::format("/proc/{}/task/{}/pagemap", process.pid(), tid), O_RDONLY);
    skips_absent_ = scan_pages(file_.get(), {LiveAddr(0), LiveAddr(kPageSize)}).has_value();
  } catch (const Error&) {
    // resident() says so
  }
}

std::vector<LiveRange> Pagemap::resident(LiveRange range) const {
  if (!file_) {
    return {range};
  }
  if (auto found = scan_pages(file_.get(), range)) {
    return std::move(*found);
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
  const auto tid = find_live_task(process.pid());
  auto status = tid ? read_task_file(process.pid(), *tid, "status") : std::nullopt;
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
