// Staging maps each image with a handful of system calls on a borrowed thread.
//
// The process opens the image file itself (so that maps, gdb, perf and core dumps show its name)
// where it sees the store under the same path; where it does not (other mount namespace, chroot,
// permissions), it creates a memfd, which we fill from outside through /proc/PID/fd. The whole range
// is reserved first with MAP_FIXED_NOREPLACE: between the plan and now the process may have mapped
// something there, and that must be an error and never a replacement.
//
// A process of one thread stands still while that thread is borrowed, so only the system calls
// happen then: the file is written before, and the writable content (GOT slots, pointers, registry)
// afterwards, through /proc/PID/mem. If one of several images can't be mapped, those before it go
// again before the thread is given back. At the end everything is read back and compared (P7).

#include "apply/stage.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <algorithm>
#include <deque>
#include <optional>

#include <fmt/format.h>

#include "apply/registries.h"
#include "base/fault.h"
#include "proc/borrow.h"
#include "proc/remote_file.h"
#include "proc/way_home.h"

namespace qp::apply {
namespace {

int protection(uint32_t flags) {
  return ((flags & elf::kSegR) != 0 ? PROT_READ : 0) |
         ((flags & elf::kSegW) != 0 ? PROT_WRITE : 0) | ((flags & elf::kSegX) != 0 ? PROT_EXEC : 0);
}

bool failed(int64_t result) {
  return result < 0 && result >= -4095;
}

// A limit of the process's own, as opposed to something wrong. Null: none.
const char* limit_behind(int64_t error) {
  switch (error) {
    case ENOMEM:
      return "the process may have no more memory (RLIMIT_AS, its control group) or no more "
             "mappings (vm.max_map_count)";
    case EAGAIN:
      return "the process may lock no more memory (RLIMIT_MEMLOCK)";
    case EMFILE:
      return "the process may open no more files (RLIMIT_NOFILE)";
    default:
      return nullptr;
  }
}

// Throws with the kernel's words if a system call of the borrowed thread failed.
uint64_t demand(int64_t result, const char* what, const std::string& on) {
  if (failed(result)) {
    if (const char* limit = limit_behind(-result)) {
      throw Error("process-limit", fmt::format("{} in the process", what), on, limit,
                  ExitCode::NoMatch);
    }
    throw system_error(fmt::format("{} in the process", what), on, static_cast<int>(-result));
  }
  return static_cast<uint64_t>(result);
}

// The image in the store; written if it is not there, or is not what it should be.
std::filesystem::path store_image(const PartPlan& plan, const Options& options) {
  std::filesystem::path path =
      options.image_store / image_name(plan.registry.patch_id, plan.image.build_id);
  std::error_code ignored;
  if (std::filesystem::exists(path, ignored) && read_file(path) == plan.image.file) {
    return path;
  }
  std::filesystem::create_directories(options.image_store);
  write_file(path, plan.image.file, 0644);
  return path;
}

// The image's range on its way into the process. What is not mapped to the end goes away again.
class Mapping {
 public:
  Mapping(proc::Borrowed& thread, const proc::Process& process, const PartPlan& plan)
      : thread_(thread), process_(process), plan_(plan), range_(plan.registry.image) {}
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping() {
    try {
      if (fd_ >= 0) {
        thread_.call(SYS_close, static_cast<uint64_t>(fd_));
      }
      if (mapped_ && !complete_) {
        thread_.call(SYS_munmap, range_.start.value, range_.size());
      }
    } catch (const Error&) {
      // The thread died, and its memory with it.
    }
  }
  // `stored`: the image in the store, or nothing. Opens it and reserves the range.
  void begin(const std::optional<std::filesystem::path>& stored);
  void map_segments();
  void complete() { complete_ = true; }

 private:
  void reserve();
  void open(const std::optional<std::filesystem::path>& stored);
  uint64_t put_text(const std::string& text);
  void open_memfd();

  proc::Borrowed& thread_;
  const proc::Process& process_;
  const PartPlan& plan_;
  LiveRange range_;
  int64_t fd_ = -1;
  bool mapped_ = false, complete_ = false;
  bool first_is_mapped_ = false;  // the reserved range begins as the first segment
};

// If the thread brings scratch memory, the range is reserved with the file itself, so that it bears
// the image's name from the first moment, and `recover` can find it; that is also the mapping of the
// first segment, which saves a call. Else it has to carry the path.
void Mapping::begin(const std::optional<std::filesystem::path>& stored) {
  if (thread_.scratch()) {
    open(stored);
    reserve();
  } else {
    reserve();
    open(stored);
  }
}

void Mapping::reserve() {
  const int how = MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED_NOREPLACE;
  const bool named = fd_ >= 0;
  const link::ImageSegment& first = plan_.image.segments.front();
  first_is_mapped_ = named && plan_.module.bias(first.address) == range_.start &&
                     first.offset.value == 0 && (first.flags & elf::kSegW) == 0;
  uint64_t got =
      demand(thread_.call(SYS_mmap, range_.start.value, range_.size(),
                          static_cast<uint64_t>(first_is_mapped_ ? protection(first.flags)
                                                : named          ? PROT_NONE
                                                                 : PROT_READ | PROT_WRITE),
                          static_cast<uint64_t>(named ? how : how | MAP_ANONYMOUS),
                          static_cast<uint64_t>(fd_), 0),
             "mmap", fmt::format("the image's range at {:#x}", range_.start.value));
  if (got != range_.start.value) {  // a kernel before 4.17 takes the flag for a hint
    thread_.call(SYS_munmap, got, range_.size());
    throw Error("system", "mmap in the process", fmt::format("{:#x}", range_.start.value),
                "the range is not free any more");
  }
  mapped_ = true;
}

uint64_t Mapping::put_text(const std::string& text) {
  Bytes bytes = copy(as_bytes(text));
  bytes.push_back(std::byte{0});
  const LiveAddr at = thread_.scratch().value_or(range_.start);
  if (bytes.size() > (thread_.scratch() ? proc::WayHome::kScratch : range_.size())) {
    throw Error("system", "opening in the process", text, "the path is too long");
  }
  process_.memory().write(at, bytes);
  return at.value;
}

void Mapping::open(const std::optional<std::filesystem::path>& stored) {
  if (stored) {
    int64_t fd = thread_.call(SYS_openat, static_cast<uint64_t>(AT_FDCWD),
                              put_text(stored->string()), O_RDONLY | O_CLOEXEC);
    if (!failed(fd)) {
      fd_ = fd;
      return;
    }
  }
  open_memfd();
}

void Mapping::open_memfd() {
  std::string name = image_name(plan_.registry.patch_id, plan_.image.build_id);
  fd_ = static_cast<int64_t>(
      demand(thread_.call(SYS_memfd_create, put_text(name), MFD_CLOEXEC), "memfd_create", name));
  proc::write_remote_file(process_, static_cast<int>(fd_), plan_.image.file);
}

void Mapping::map_segments() {
  for (const link::ImageSegment& s : plan_.image.segments) {
    if (first_is_mapped_ && &s == &plan_.image.segments.front()) {
      continue;
    }
    const bool zeros = s.file_size == 0;
    demand(
        thread_.call(SYS_mmap, plan_.module.bias(s.address).value, s.memory_size,
                     static_cast<uint64_t>(protection(s.flags)),
                     MAP_PRIVATE | MAP_FIXED | (zeros ? MAP_ANONYMOUS : 0),
                     zeros ? ~uint64_t{0} : static_cast<uint64_t>(fd_), zeros ? 0 : s.offset.value),
        "mmap", "a segment of the image");
  }
}

// The process runs the mapped file's path itself, so it has to see the same file under it.
std::optional<std::filesystem::path> try_store_image(const proc::Process& process,
                                                     const PartPlan& plan, const Options& options) {
  if (options.map_from_memfd || !process.same_mount_namespace()) {
    return std::nullopt;
  }
  try {
    return store_image(plan, options);
  } catch (const std::exception&) {
    return std::nullopt;  // no writable store: the memfd serves as well, tools see less
  }
}

void map_images(const proc::Process& process, const std::vector<const PartPlan*>& plans,
                const Options& options) {
  std::vector<std::optional<std::filesystem::path>> stored;
  for (const PartPlan* plan : plans) {
    stored.push_back(try_store_image(process, *plan, options));
  }
  proc::Borrowed thread = proc::Borrowed::demand(process);
  fault_point("stage.borrowed");
  {
    std::deque<Mapping> mappings;
    for (size_t i = 0; i < plans.size(); ++i) {
      Mapping& mapping = mappings.emplace_back(thread, process, *plans[i]);
      mapping.begin(stored[i]);
      fault_point("stage.opened");
      mapping.map_segments();
      fault_point("stage.mapped");
    }
    for (Mapping& mapping : mappings) {
      mapping.complete();
    }
  }
  thread.give_back();
}

void write_values(const proc::Process& process, const PartPlan& plan) {
  for (const Write& w : plan.writes) {
    process.memory().write(w.at, w.bytes);
  }
}

// Writable segments of an image that was kept hold what its variables have become meanwhile; there
// only what was written now is compared.
void read_back(const proc::Process& process, const PartPlan& plan) {
  for (const link::ImageSegment& s : plan.image.segments) {
    LiveRange range{plan.module.bias(s.address), plan.module.bias(s.address + s.memory_size)};
    if (s.file_size == 0) {
      continue;  // the kernel's zeros
    }
    Bytes want = copy(slice(plan.image.file, s.offset.value, s.file_size));
    Bytes have(want.size());
    bool same = process.memory().try_read(range.start, have);
    if (plan.reuse && (s.flags & elf::kSegW) != 0) {
      want = have;
    }
    for (const Write& w : plan.writes) {
      if (range.contains(w.at)) {
        store_bytes(want, static_cast<uint64_t>(w.at - range.start), w.bytes);
      }
    }
    if (!same || have != want) {
      throw Error("system", "reading back the image", fmt::format("{:#x}", range.start.value),
                  "the process does not have what was written");
    }
  }
}

}  // namespace

Staged::Staged(Staged&& o) noexcept
    : process_(std::exchange(o.process_, nullptr)), plan_(o.plan_) {}

Staged::~Staged() {
  if (process_ != nullptr) {
    try {
      std::vector<LiveRange> images;
      for (const PartPlan& part : plan_->parts) {
        if (part.reuse) {
          write_state(process_->memory(), part.registry_at, State::Reverted);
        } else {
          images.push_back(part.registry.image);
        }
      }
      unmap_images(*process_, images);
    } catch (const std::exception&) {
      // The images stay: mapped, unreferenced, in state `staged`; recover removes them.
    }
  }
}

Staged Staged::stage(const proc::Process& process, const Plan& plan, const Options& options) {
  std::vector<const PartPlan*> to_map;
  for (const PartPlan& part : plan.parts) {
    if (!part.reuse) {
      to_map.push_back(&part);
    }
  }
  if (!to_map.empty()) {
    map_images(process, to_map, options);
  }
  Staged staged(process, plan);
  for (const PartPlan& part : plan.parts) {
    write_values(process, part);
    fault_point("stage.written");
    read_back(process, part);
  }
  return staged;
}

bool unmap_images(const proc::Process& process, const std::vector<LiveRange>& images) {
  if (images.empty()) {
    return true;
  }
  auto thread = proc::Borrowed::take(process);
  if (!thread) {
    return !process.alive();
  }
  bool all = true;
  for (const LiveRange image : images) {
    all &= !failed(thread->call(SYS_munmap, image.start.value, image.size()));
  }
  thread->give_back();
  return all;
}

}  // namespace qp::apply
