// Staging maps the image with a handful of system calls on a borrowed thread.
//
// The process opens the image file itself (so that maps, gdb, perf and core dumps show its name)
// where it sees the store under the same path; where it does not (other mount namespace, chroot,
// permissions), it creates a memfd, which we fill from outside through /proc/PID/fd. The path
// travels in a scratch page that is mapped and unmapped again: nothing is written to the thread's
// stack. The whole range is reserved first with MAP_FIXED_NOREPLACE: between the plan and now the
// process may have mapped something there, and that must be an error and never a replacement.
//
// The writable content (GOT slots, pointers, registry) is written through /proc/PID/mem, and at the
// end everything is read back and compared (P7).

#include "apply/stage.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <algorithm>

#include <fmt/format.h>

#include "apply/registries.h"
#include "base/fault.h"
#include "proc/borrow.h"
#include "proc/remote_file.h"

namespace qp::apply {
namespace {

int protection(uint32_t flags) {
  return ((flags & elf::kSegR) != 0 ? PROT_READ : 0) |
         ((flags & elf::kSegW) != 0 ? PROT_WRITE : 0) | ((flags & elf::kSegX) != 0 ? PROT_EXEC : 0);
}

bool failed(int64_t result) {
  return result < 0 && result >= -4095;
}

// Throws with the kernel's words if a system call of the borrowed thread failed.
uint64_t demand(int64_t result, const char* what, const std::string& on) {
  if (failed(result)) {
    throw system_error(fmt::format("{} in the process", what), on, static_cast<int>(-result));
  }
  return static_cast<uint64_t>(result);
}

// A page of the process for system call arguments; unmapped at the end.
class Scratch {
 public:
  Scratch(proc::Borrowed& thread, const proc::Process& process)
      : thread_(thread), process_(process) {
    at_ = LiveAddr(demand(thread.call(SYS_mmap, 0, kPageSize, PROT_READ | PROT_WRITE,
                                      MAP_PRIVATE | MAP_ANONYMOUS, static_cast<uint64_t>(-1), 0),
                          "mmap", "a scratch page"));
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() {
    try {
      thread_.call(SYS_munmap, at_.value, kPageSize);
    } catch (const Error&) {
      // The thread died, and its memory with it.
    }
  }
  uint64_t put_text(const std::string& text) {
    Bytes bytes = copy(as_bytes(text));
    bytes.push_back(std::byte{0});
    QP_ASSERT(bytes.size() <= kPageSize);
    process_.memory().write(at_, bytes);
    return at_.value;
  }

 private:
  proc::Borrowed& thread_;
  const proc::Process& process_;
  LiveAddr at_;
};

// The image in the store; written if it is not there, or is not what it should be.
std::filesystem::path store_image(const Plan& plan, const Options& options) {
  std::filesystem::path path = options.image_store / image_name(plan.patch_id, plan.image.build_id);
  std::error_code ignored;
  if (std::filesystem::exists(path, ignored) && read_file(path) == plan.image.file) {
    return path;
  }
  std::filesystem::create_directories(options.image_store);
  write_file(path, plan.image.file, 0644);
  return path;
}

int64_t open_memfd(proc::Borrowed& thread, Scratch& scratch, const proc::Process& process,
                   const Plan& plan) {
  std::string name = image_name(plan.patch_id, plan.image.build_id);
  uint64_t fd = demand(thread.call(SYS_memfd_create, scratch.put_text(name), MFD_CLOEXEC),
                       "memfd_create", name);
  try {
    proc::write_remote_file(process, static_cast<int>(fd), plan.image.file);
  } catch (...) {
    thread.call(SYS_close, fd);
    throw;
  }
  return static_cast<int64_t>(fd);
}

int64_t open_image(proc::Borrowed& thread, Scratch& scratch, const proc::Process& process,
                   const Plan& plan, const Options& options) {
  bool from_store = !options.map_from_memfd && process.same_mount_namespace();
  std::filesystem::path path;
  if (from_store) {
    try {
      path = store_image(plan, options);
    } catch (const std::exception&) {
      from_store = false;  // no writable store: the memfd serves as well, tools see less
    }
  }
  if (from_store) {
    int64_t fd = thread.call(SYS_openat, static_cast<uint64_t>(AT_FDCWD),
                             scratch.put_text(path.string()), O_RDONLY | O_CLOEXEC);
    if (!failed(fd)) {
      return fd;
    }
  }
  return open_memfd(thread, scratch, process, plan);
}

LiveRange live_range(const Plan& plan) {
  LoadBias bias = plan.module().bias;
  return {bias(plan.image.range.start), bias(plan.image.range.end)};
}

void map_segments(proc::Borrowed& thread, int64_t fd, const Plan& plan) {
  LiveRange range = live_range(plan);
  uint64_t got =
      demand(thread.call(SYS_mmap, range.start.value, range.size(), PROT_NONE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE,
                         static_cast<uint64_t>(-1), 0),
             "mmap", fmt::format("the image's range at {:#x}", range.start.value));
  if (got != range.start.value) {  // a kernel before 4.17 takes the flag for a hint
    thread.call(SYS_munmap, got, range.size());
    throw Error("system", "mmap in the process", fmt::format("{:#x}", range.start.value),
                "the range is not free any more");
  }
  for (const link::ImageSegment& s : plan.image.segments) {
    int64_t result =
        thread.call(SYS_mmap, plan.module().bias(s.address).value, s.memory_size,
                    static_cast<uint64_t>(protection(s.flags)), MAP_PRIVATE | MAP_FIXED,
                    static_cast<uint64_t>(fd), s.offset.value);
    if (failed(result)) {
      thread.call(SYS_munmap, range.start.value, range.size());
      demand(result, "mmap", "a segment of the image");
    }
  }
}

void map_image(proc::Borrowed& thread, const proc::Process& process, const Plan& plan,
               const Options& options) {
  Scratch scratch(thread, process);
  int64_t fd = open_image(thread, scratch, process, plan, options);
  try {
    fault_point("stage.opened");
    map_segments(thread, fd, plan);
  } catch (...) {
    thread.call(SYS_close, static_cast<uint64_t>(fd));
    throw;
  }
  thread.call(SYS_close, static_cast<uint64_t>(fd));
}

void write_values(const proc::Process& process, const Plan& plan) {
  for (const Write& w : plan.writes) {
    process.memory().write(w.at, w.bytes);
  }
}

// Writable segments of an image that was kept hold what its variables have become meanwhile; there
// only what was written now is compared.
void read_back(const proc::Process& process, const Plan& plan) {
  for (const link::ImageSegment& s : plan.image.segments) {
    LiveRange range{plan.module().bias(s.address), plan.module().bias(s.address + s.memory_size)};
    Bytes want = copy(slice(plan.image.file, s.offset.value, s.memory_size));
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
      if (plan_->reuse) {
        write_state(process_->memory(), plan_->registry_at, State::Reverted);
      } else {
        unmap_image(*process_, live_range(*plan_));
      }
    } catch (const std::exception&) {
      // The image stays: mapped, unreferenced, in state `staged`; recover removes it.
    }
  }
}

Staged Staged::stage(const proc::Process& process, const Plan& plan, const Options& options) {
  auto thread = proc::Borrowed::take(process);
  if (!thread) {
    throw Error("no-thread", "borrowing a thread of", std::to_string(process.pid()),
                "none of its threads can run a system call for us now");
  }
  LiveRange range = live_range(plan);
  fault_point("stage.borrowed");
  if (!plan.reuse) {
    map_image(*thread, process, plan, options);
  }
  try {
    fault_point("stage.mapped");
    write_values(process, plan);
    fault_point("stage.written");
    read_back(process, plan);
  } catch (...) {
    if (!plan.reuse) {
      thread->call(SYS_munmap, range.start.value, range.size());
    }
    throw;
  }
  thread->give_back();
  return Staged(process, plan);
}

bool unmap_image(const proc::Process& process, LiveRange range) {
  auto thread = proc::Borrowed::take(process);
  if (!thread) {
    return !process.alive();
  }
  int64_t result = thread->call(SYS_munmap, range.start.value, range.size());
  thread->give_back();
  return !failed(result);
}

}  // namespace qp::apply
