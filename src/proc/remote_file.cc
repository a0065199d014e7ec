// A memfd that a process created on our behalf is filled by us: /proc/PID/fd/N opens the same file.
// So the content never travels through the process's memory or its registers.

#include "proc/remote_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include <fmt/format.h>

#include "base/error.h"
#include "proc/procfs.h"

namespace qp::proc {
namespace {

// A dead leader has no descriptors any more; the process's other threads have.
std::string descriptors(const Process& process) {
  const pid_t tid = find_live_task(process.pid()).value_or(process.pid());
  return fmt::format("/proc/{}/task/{}/fd", process.pid(), tid);
}

}  // namespace

void write_remote_file(const Process& process, int fd, ByteView content) {
  std::string path = fmt::format("{}/{}", descriptors(process), fd);
  Fd file = open_file(path, O_RDWR);
  size_t done = 0;
  while (done < content.size()) {
    ssize_t n =
        pwrite(file.get(), content.data() + done, content.size() - done, static_cast<off_t>(done));
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n <= 0) {
      throw system_error("writing", path, n < 0 ? errno : EIO);
    }
    done += static_cast<size_t>(n);
  }
}

std::vector<RemoteFile> remote_files(const Process& process) {
  std::vector<RemoteFile> out;
  std::error_code error;
  std::filesystem::directory_iterator entries(descriptors(process), error);
  for (; !error && entries != std::filesystem::directory_iterator(); entries.increment(error)) {
    std::error_code gone;
    std::string name = std::filesystem::read_symlink(entries->path(), gone).string();
    constexpr std::string_view kDeleted = " (deleted)";
    if (name.ends_with(kDeleted)) {
      name.erase(name.size() - kDeleted.size());
    }
    if (!gone) {
      out.push_back({std::stoi(entries->path().filename().string()), std::move(name)});
    }
  }
  return out;
}

}  // namespace qp::proc
