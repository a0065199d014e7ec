// A process is named by a number that the kernel gives to somebody else when it is gone. A pidfd
// is held from the first moment on, and what was read by number counts only if the pidfd still says
// "alive" afterwards.
//
// /proc/PID/X is that of the thread group leader, which can be dead while the process lives (its
// main thread called pthread_exit): then maps, exe and ns are looked up through a thread that lives
// (procfs.h). Names are shown to people, so their control characters are escaped.

#include "proc/process.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdlib>

#include <fmt/format.h>

#include "base/error.h"
#include "proc/maps.h"
#include "proc/procfs.h"

namespace qp::proc {
namespace {

constexpr int kOpenAttempts = 5;

Error no_process(pid_t pid) {
  return Error("no-process", "can't open", fmt::format("process {}", pid),
               "there is no such process");
}

std::string task_path(pid_t pid, const char* name) {
  return fmt::format("/proc/{}/task/{}/{}", pid, find_live_task(pid).value_or(pid), name);
}

bool same_file(const std::string& a, const std::string& b) {
  struct stat x {
  }, y{};
  return ::stat(a.c_str(), &x) == 0 && ::stat(b.c_str(), &y) == 0 && x.st_dev == y.st_dev &&
         x.st_ino == y.st_ino;
}

std::string program_name(pid_t pid) {
  char buffer[PATH_MAX];
  std::string link = task_path(pid, "exe");
  ssize_t n = ::readlink(link.c_str(), buffer, sizeof buffer);
  if (n > 0) {
    std::string_view path(buffer, static_cast<size_t>(n));
    constexpr std::string_view kDeleted = " (deleted)";
    // The kernel's word, unless the file is called that.
    if (path.ends_with(kDeleted) &&
        !same_file(link, fmt::format("{}{}", task_path(pid, "root"), path))) {
      path.remove_suffix(kDeleted.size());
    }
    return printable(path.substr(path.rfind('/') + 1));  // npos + 1 is 0
  }
  std::string name = read_task_file(pid, pid, "comm").value_or("");
  if (name.ends_with('\n')) {
    name.pop_back();
  }
  return printable(name);
}

}  // namespace

Process Process::open(pid_t pid) {
  Process out;
  out.pid_ = pid;
  // ENOENT (EINVAL on older kernels): the number of a thread that is not a leader.
  out.pidfd_ = Fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!out.pidfd_) {
    if (errno == ESRCH || errno == EINVAL || errno == ENOENT) {
      throw no_process(pid);
    }
    throw system_error("can't open", fmt::format("process {}", pid), errno);
  }
  for (int attempt = 1; !out.memory_ && out.alive(); ++attempt) {
    try {
      out.program_ = program_name(pid);
      out.memory_ = std::make_unique<Memory>(pid);
    } catch (const Error&) {
      // The thread that it went through may have died just now, or be in exec.
      if (attempt == kOpenAttempts && out.alive()) {
        throw;
      }
    }
  }
  if (!out.memory_ || !out.alive()) {
    throw no_process(pid);
  }
  return out;
}

bool Process::alive() const {
  // Readable once every thread of the process is dead, waited for or not (pidfd_open(2)).
  pollfd p{.fd = pidfd_.get(), .events = POLLIN, .revents = 0};
  int n;
  do {
    n = ::poll(&p, 1, 0);
  } while (n < 0 && errno == EINTR);
  return n <= 0;  // an error of ours is no news of it
}

bool Process::same_program() const {
  return alive() && !memory_->gone();
}

uint64_t Process::start_time() const {
  auto stat = read_task_stat(pid_, pid_);
  return stat ? stat->start : 0;
}

std::vector<Mapping> Process::mappings() const {
  for (int attempt = 0; attempt < 3; ++attempt) {
    auto tid = find_live_task(pid_);
    if (!tid) {
      break;
    }
    auto text = read_task_file(pid_, *tid, "maps");
    if (text && !text->empty()) {
      return parse_maps(*text);
    }
    // That thread died just now.
  }
  return {};
}

std::vector<pid_t> Process::threads() const {
  return list_tasks(pid_);
}

std::string Process::thread_name(pid_t tid) const {
  std::string name = read_task_file(pid_, tid, "comm").value_or("");
  if (name.ends_with('\n')) {
    name.pop_back();
  }
  return printable(name);
}

std::optional<pid_t> Process::tracer() const {
  // The leader and one living thread; freeze and borrow find a tracer of any other thread.
  for (pid_t tid : {pid_, find_live_task(pid_).value_or(pid_)}) {
    auto status = read_task_status(pid_, tid);
    if (status && status->tracer != 0) {
      return status->tracer;
    }
  }
  return std::nullopt;
}

bool Process::same_mount_namespace() const {
  return same_file(task_path(pid_, "ns/mnt"), "/proc/self/ns/mnt") &&
         same_file(task_path(pid_, "root"), "/proc/self/root");
}

std::filesystem::path executable_path(const Process& process) {
  return task_path(process.pid(), "exe");
}

std::vector<Running> running_processes() {
  std::vector<Running> out;
  std::unique_ptr<DIR, int (*)(DIR*)> dir(::opendir("/proc"), ::closedir);
  if (!dir) {
    throw system_error("can't open", "/proc", errno);
  }
  while (const dirent* entry = ::readdir(dir.get())) {
    auto pid = static_cast<pid_t>(std::strtol(entry->d_name, nullptr, 10));
    if (pid <= 0) {
      continue;
    }
    auto stat = read_task_stat(pid, pid);
    // A dead leader counts as long as other threads live.
    if (stat && !stat->kernel_thread() && (!stat->dead() || stat->threads > 1)) {
      out.push_back({pid, stat->start, stat->stack, stat->parent});
    }
  }
  std::sort(out.begin(), out.end());
  return out;
}

std::vector<pid_t> all_processes() {
  std::vector<pid_t> out;
  for (const Running& process : running_processes()) {
    out.push_back(process.pid);
  }
  return out;
}

}  // namespace qp::proc
