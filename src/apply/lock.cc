// Two runs on one process would see each other's half-done work: an image without a registry, a
// registry that is staged. Worse, `recover` would undo what another run is about to commit. So
// whoever changes a process holds a lock on it. The lock is the kernel's (flock), which ends with its
// holder: a run that was killed leaves none behind.
//
// The file is named by the process's number and start time, since numbers are used again. Users
// without access to /run have a directory of their own; they can't change other users' processes.

#include "apply/lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <thread>

#include <fmt/format.h>

#include "base/error.h"

namespace qp::apply {
namespace {

constexpr auto kPoll = std::chrono::milliseconds(5);

}  // namespace

bool ProcessLock::open(const std::filesystem::path& directory, const std::string& name) {
  std::error_code ignored;
  std::filesystem::create_directories(directory, ignored);
  path_ = directory / name;
  file_ = Fd(::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  return static_cast<bool>(file_);
}

// The holder before us removes the file when it is done.
bool ProcessLock::is_current() const {
  struct stat ours {
  }, there{};
  return ::fstat(file_.get(), &ours) == 0 && ::stat(path_.c_str(), &there) == 0 &&
         ours.st_ino == there.st_ino && ours.st_dev == there.st_dev;
}

ProcessLock::ProcessLock(const proc::Process& process, std::chrono::milliseconds timeout) {
  const std::string name = fmt::format("{}-{}", process.pid(), process.start_time());
  const std::string own = fmt::format("/tmp/qpatch-locks-{}", ::geteuid());
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  for (;;) {
    if (!open("/run/qpatch/locks", name) && !open(own, name)) {
      throw system_error("can't open the lock of", fmt::format("process {}", process.pid()), errno);
    }
    if (::flock(file_.get(), LOCK_EX | LOCK_NB) == 0) {
      if (is_current()) {
        return;
      }
      continue;
    }
    if (errno != EWOULDBLOCK && errno != EINTR) {
      throw system_error("can't lock", fmt::format("process {}", process.pid()), errno);
    }
    if (std::chrono::steady_clock::now() >= deadline) {
      throw Error("locked", "can't work on", fmt::format("process {}", process.pid()),
                  "another qpatch is at work on it", ExitCode::Busy);
    }
    std::this_thread::sleep_for(kPoll);
  }
}

ProcessLock::~ProcessLock() {
  ::unlink(path_.c_str());
}

}  // namespace qp::apply
