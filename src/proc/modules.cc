// Which ELF files a process runs, where each of them lies, and the file that it really is.
//
// A path in /proc/PID/maps does not name the file: it may have been replaced (every upgrade does
// that), unlinked, or live in another mount namespace. /proc/PID/map_files/LO-HI is the mapped
// file itself, whatever became of its name; it takes privileges (CAP_CHECKPOINT_RESTORE). Without
// them the way goes over /proc/PID/exe or /proc/PID/root/PATH, and what is found there counts only
// if device and inode are the mapping's, or the build-id is that of the live memory.
//
// A file can be mapped without being a module (a database, an archive, a debugger's view of a
// library) and it can be a module twice (dlmopen). So a module starts at a mapping of file offset 0
// that begins with an ELF header; the program headers behind it, read from live memory, say which
// other mappings of that file belong to it: those that lie where bias + p_vaddr puts them. Only
// what has executable code counts. Nothing else of a file is read before it has shown that.
//
// Live headers and notes are the process's to scribble over. They find the module and name its
// build-id; where the file itself can be opened, its headers decide the bias. A file whose build-id
// is not that of the memory was overwritten in place and counts as not there.
//
// Opened files are shared between calls and processes, which mostly run the same libraries: the
// last ones are kept, up to a limit. They are known by device, inode, size and both times.

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <deque>
#include <map>
#include <mutex>

#include <fmt/format.h>

#include "base/error.h"
#include "proc/process.h"
#include "proc/procfs.h"

namespace qp::proc {
namespace {

constexpr uint64_t kMaxHeaders = 256;     // program headers that a module may have
constexpr uint64_t kMaxNotes = 64 << 10;  // bytes of one note segment
constexpr uint64_t kMaxVdso = 1 << 20;
constexpr uint64_t kMaxKept = 128 << 20;  // bytes of opened files

using Segments = std::vector<elf::Segment>;

// A module before its file was looked at.
struct Instance {
  LoadBias bias;
  Segments segments;  // as the live program headers say
  std::vector<Mapping> mappings;
};

// The program headers of the ELF image whose header lies at `at`; empty if it is none. Offsets:
// gABI, ELF header and program header, 64-bit little-endian.
Segments read_live_segments(const MemoryReader& memory, LiveAddr at) {
  std::array<std::byte, 64> header;
  if (!memory.try_read(at, header) || load<uint32_t>(header) != 0x464c457f /* \x7fELF */ ||
      load<uint8_t>(header, 4) != 2 /* ELFCLASS64 */ || load<uint8_t>(header, 5) != 1 /* LSB */ ||
      load<uint16_t>(header, 18) != 62 /* EM_X86_64 */) {
    return {};
  }
  auto table_at = load<uint64_t>(header, 32);
  auto entry_size = load<uint16_t>(header, 54);
  auto count = load<uint16_t>(header, 56);
  if (entry_size != 56 || count > kMaxHeaders) {
    return {};
  }
  Bytes table(size_t{56} * count);
  if (!memory.try_read(at + table_at, table)) {
    return {};
  }
  Segments out;
  for (size_t i = 0; i < count; ++i) {
    ByteView h = slice(table, 56 * i, 56);
    elf::Segment s;
    s.type = static_cast<elf::SegmentType>(load<uint32_t>(h, 0));
    s.flags = load<uint32_t>(h, 4);
    s.offset = FileOffset(load<uint64_t>(h, 8));
    s.address = LinkAddr(load<uint64_t>(h, 16));
    s.file_size = load<uint64_t>(h, 32);
    s.memory_size = load<uint64_t>(h, 40);
    s.alignment = load<uint64_t>(h, 48);
    out.push_back(s);
  }
  return out;
}

bool is_load(const elf::Segment& s) {
  return s.type == elf::SegmentType::Load && s.file_size > 0;
}

// Where the mapping would put the segment's first page, if it shows a part of this segment.
std::optional<LoadBias> bias_from(const Mapping& m, const elf::Segment& s) {
  uint64_t first = align_down(s.offset.value, kPageSize);
  if (!is_load(s) || m.offset < first || m.offset >= s.offset.value + s.file_size) {
    return std::nullopt;
  }
  return LoadBias{m.range.start.value - (m.offset - first) -
                  align_down(s.address.value, kPageSize)};
}

bool belongs(const Mapping& m, const Segments& segments, LoadBias bias) {
  return std::any_of(segments.begin(), segments.end(),
                     [&](const elf::Segment& s) { return bias_from(m, s) == bias; });
}

// The bias that puts the most of `mappings` where segments say; the first segment's if in doubt.
std::optional<LoadBias> find_bias(const std::vector<Mapping>& mappings, const Segments& segments) {
  std::optional<LoadBias> best;
  std::ptrdiff_t most = 0;
  for (const Mapping& m : mappings) {
    for (const elf::Segment& s : segments) {
      auto bias = bias_from(m, s);
      if (!bias || bias == best) {
        continue;
      }
      auto fits = std::count_if(mappings.begin(), mappings.end(), [&](const Mapping& other) {
        return belongs(other, segments, *bias);
      });
      if (fits > most) {
        best = bias;
        most = fits;
      }
    }
  }
  return best;
}

std::vector<Instance> find_instances(const MemoryReader& memory,
                                     const std::vector<Mapping>& mappings) {
  std::map<std::pair<uint64_t, uint64_t>, std::vector<const Mapping*>> files;
  for (const Mapping& m : mappings) {
    if (m.inode != 0) {
      files[{m.device, m.inode}].push_back(&m);
    }
  }
  std::vector<Instance> out;
  for (const auto& [key, of_file] : files) {
    if (std::none_of(of_file.begin(), of_file.end(),
                     [](const Mapping* m) { return m->executable; })) {
      continue;
    }
    std::vector<Instance> instances;
    for (const Mapping* m : of_file) {
      if (!instances.empty() && belongs(*m, instances.back().segments, instances.back().bias)) {
        instances.back().mappings.push_back(*m);
        continue;
      }
      if (m->offset != 0) {
        continue;
      }
      Segments segments = read_live_segments(memory, m->range.start);
      auto first = std::find_if(segments.begin(), segments.end(), [&](const elf::Segment& s) {
        return bias_from(*m, s).has_value();
      });
      if (first != segments.end()) {
        instances.push_back({*bias_from(*m, *first), std::move(segments), {*m}});
      }
    }
    for (Instance& instance : instances) {
      if (std::any_of(instance.mappings.begin(), instance.mappings.end(),
                      [](const Mapping& m) { return m.executable; })) {
        out.push_back(std::move(instance));
      }
    }
  }
  std::sort(out.begin(), out.end(), [](const Instance& a, const Instance& b) {
    return a.mappings.front().range.start < b.mappings.front().range.start;
  });
  return out;
}

std::string read_live_build_id(const MemoryReader& memory, const Instance& instance) {
  for (const elf::Segment& s : instance.segments) {
    if (s.type != elf::SegmentType::Note || s.memory_size > kMaxNotes) {
      continue;
    }
    Bytes notes(s.memory_size);
    if (memory.try_read(instance.bias(s.address), notes)) {
      try {
        if (auto id = elf::find_build_id(notes)) {
          return *id;
        }
      } catch (const Error&) {
        // Scribbled over: no build-id.
      }
    }
  }
  return "";
}

struct FileKey {
  dev_t device;
  ino_t inode;
  off_t size;
  int64_t modified_s, modified_ns, changed_s, changed_ns;
  auto operator<=>(const FileKey&) const = default;
};

// Of all threads of ours.
class RecentFiles {
 public:
  std::shared_ptr<const elf::File> find(const FileKey& key) {
    std::lock_guard lock(mutex_);
    auto it = std::find_if(files_.begin(), files_.end(),
                           [&](const auto& entry) { return entry.first == key; });
    if (it == files_.end()) {
      return nullptr;
    }
    std::rotate(it, it + 1, files_.end());  // the newest is the last
    return files_.back().second;
  }
  void add(const FileKey& key, std::shared_ptr<const elf::File> file) {
    std::lock_guard lock(mutex_);
    bytes_ += file->bytes().size();
    files_.emplace_back(key, std::move(file));
    while (bytes_ > kMaxKept) {
      bytes_ -= files_.front().second->bytes().size();
      files_.pop_front();
    }
  }

 private:
  std::mutex mutex_;
  std::deque<std::pair<FileKey, std::shared_ptr<const elf::File>>> files_;
  uint64_t bytes_ = 0;
};

std::shared_ptr<const elf::File> parse_shared(int fd, const std::string& name) {
  static RecentFiles recent;
  struct stat st {};
  if (::fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
    return nullptr;
  }
  FileKey key{st.st_dev,          st.st_ino,         st.st_size,        st.st_mtim.tv_sec,
              st.st_mtim.tv_nsec, st.st_ctim.tv_sec, st.st_ctim.tv_nsec};
  if (auto file = recent.find(key)) {
    return file;
  }
  try {
    auto file = std::make_shared<const elf::File>(elf::File::parse(read_fd(fd, name), name));
    recent.add(key, file);
    return file;
  } catch (const Error&) {
    return nullptr;  // damaged, or unreadable: the caller says that the file is not there
  }
}

bool is_file_of(int fd, const Mapping& m) {
  struct stat st {};
  return ::fstat(fd, &st) == 0 && st.st_dev == m.device && st.st_ino == m.inode;
}

std::shared_ptr<const elf::File> open_mapped(pid_t pid, pid_t tid, const Mapping& m,
                                             const std::string& live_id) {
  auto open = [](const std::string& path) {
    return Fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  };
  std::shared_ptr<const elf::File> file;
  // task/TID has no map_files, but /proc/TID is there, though unlisted, and has them; those of a
  // dead leader are gone.
  if (Fd fd = open(fmt::format("/proc/{}/map_files/{:x}-{:x}", tid, m.range.start.value,
                               m.range.end.value))) {
    file = parse_shared(fd.get(), m.name);
    return file && !live_id.empty() && file->build_id().value_or("") != live_id ? nullptr : file;
  }
  for (const std::string& path : {fmt::format("/proc/{}/task/{}/exe", pid, tid),
                                  fmt::format("/proc/{}/task/{}/root{}", pid, tid, m.name)}) {
    struct stat st {};
    // A name of the process's choosing could be a device or a pipe: looked at before it is opened.
    if (::stat(path.c_str(), &st) != 0 || !S_ISREG(st.st_mode)) {
      continue;
    }
    bool same = st.st_dev == m.device && st.st_ino == m.inode;
    if (!same && (live_id.empty() || path.ends_with("/exe"))) {
      continue;
    }
    Fd fd = open(path);
    if (!fd || (same && !is_file_of(fd.get(), m))) {
      continue;
    }
    file = parse_shared(fd.get(), m.name);
    if (file && (live_id.empty() ? same : file->build_id().value_or("") == live_id)) {
      return file;
    }
  }
  return nullptr;
}

// The mappings of the file, and what lies behind them without a gap as far as the program headers
// reach: .bss is anonymous memory.
LiveRange whole_range(const Instance& instance, const std::vector<Mapping>& all,
                      const Segments& segments) {
  LiveRange range{instance.mappings.front().range.start, instance.mappings.back().range.end};
  LiveAddr limit = range.end;
  for (const elf::Segment& s : segments) {
    if (s.type == elf::SegmentType::Load) {
      limit = std::max(limit, instance.bias(s.address + s.memory_size));
    }
  }
  for (const Mapping& m : all) {
    if (m.range.start == range.end && m.inode == 0 && m.range.start < limit) {
      range.end = m.range.end;
    }
  }
  range.end = std::min(range.end, LiveAddr(align_up(limit.value, kPageSize)));
  return range;
}

Module make_module(const Process& process, const std::vector<Mapping>& all, Instance instance,
                   pid_t tid, const std::string& live_id) {
  Module out;
  const Mapping& first = instance.mappings.front();
  out.path = first.name;
  out.build_id = live_id;
  out.file = open_mapped(process.pid(), tid, first, live_id);
  if (out.file) {
    if (out.build_id.empty()) {
      out.build_id = out.file->build_id().value_or("");
    }
    if (auto bias = find_bias(instance.mappings, out.file->segments())) {
      instance.bias = *bias;
    }
  }
  out.bias = instance.bias;
  out.range = whole_range(instance, all, out.file ? out.file->segments() : instance.segments);
  for (const Mapping& m : instance.mappings) {
    if (m.executable) {
      out.executable.push_back(m.range);
    }
  }
  return out;
}

// The kernel's own module has no file: its bytes are those in memory.
std::optional<Module> make_vdso(const MemoryReader& memory, const Mapping& m) {
  if (m.range.size() > kMaxVdso) {
    return std::nullopt;
  }
  Module out;
  out.path = m.name;
  out.range = m.range;
  out.executable = {m.range};
  out.bias = LoadBias{m.range.start.value};
  Bytes bytes(m.range.size());
  if (memory.try_read(m.range.start, bytes)) {
    try {
      auto file = std::make_shared<const elf::File>(elf::File::parse(std::move(bytes), m.name));
      for (const elf::Segment& s : file->segments()) {
        if (is_load(s)) {
          out.bias = LoadBias{m.range.start.value - (s.address.value - s.offset.value)};
          break;
        }
      }
      out.build_id = file->build_id().value_or("");
      out.file = std::move(file);
    } catch (const Error&) {
      // Without its unwind tables a thread inside it counts as busy.
    }
  }
  return out;
}

bool is_executable_of(const Module& module, const Mapping& exe) {
  return module.range.contains(exe.range.start);
}

// A mapping of the program itself: the file that /proc/PID/exe leads to.
const Mapping* find_executable(const Process& process, const std::vector<Mapping>& all, pid_t tid) {
  struct stat st {};
  if (::stat(fmt::format("/proc/{}/task/{}/exe", process.pid(), tid).c_str(), &st) != 0) {
    return nullptr;
  }
  auto it = std::find_if(all.begin(), all.end(), [&](const Mapping& m) {
    return m.inode == st.st_ino && m.device == st.st_dev;
  });
  return it == all.end() ? nullptr : &*it;
}

}  // namespace

std::vector<Module> Process::modules() const {
  std::vector<Mapping> all = mappings();
  pid_t tid = find_live_task(pid_).value_or(pid_);
  std::vector<Module> out;
  for (Instance& instance : find_instances(memory(), all)) {
    std::string id = read_live_build_id(memory(), instance);
    out.push_back(make_module(*this, all, std::move(instance), tid, id));
  }
  for (const Mapping& m : all) {
    if (m.name == "[vdso]") {
      if (auto vdso = make_vdso(memory(), m)) {
        out.push_back(std::move(*vdso));
      }
    }
  }
  if (const Mapping* exe = find_executable(*this, all, tid)) {
    std::stable_partition(out.begin(), out.end(),
                          [&](const Module& m) { return is_executable_of(m, *exe); });
  }
  return out;
}

std::optional<Module> find_module_by_build_id(const Process& process, std::string_view build_id) {
  std::vector<Mapping> all = process.mappings();
  pid_t tid = find_live_task(process.pid()).value_or(process.pid());
  for (Instance& instance : find_instances(process.memory(), all)) {
    std::string id = read_live_build_id(process.memory(), instance);
    if (!id.empty() && id == build_id) {
      return make_module(process, all, std::move(instance), tid, id);
    }
  }
  return std::nullopt;
}

}  // namespace qp::proc
