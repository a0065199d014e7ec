// File descriptors that have an owner, and whole files as values.
//
// Three things go wrong when files are handled by hand. A descriptor leaks into a child, which then
// keeps a pipe open for ever: so everything here is O_CLOEXEC. A reader trusts st_size, which is 0
// for /proc and a lie for a file that grows: so reading goes on until read(2) says 0, with a limit
// that the caller sets. And a writer dies half way and leaves half a file under the right name: so
// a file is written beside its place, flushed, and renamed (rename(2) replaces atomically).
//
// A temporary directory goes away with its owner; what can't be removed then is left, since a
// destructor has nobody to tell.

#include "base/fd.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>

#include <fmt/format.h>

#include "base/error.h"

namespace qp {
namespace {

void write_all(int fd, ByteView content, const std::filesystem::path& path) {
  while (!content.empty()) {
    ssize_t n = ::write(fd, content.data(), content.size());
    if (n < 0) {
      if (errno == EINTR) {
        continue;
      }
      throw system_error("can't write", path.string(), errno);
    }
    content = content.subspan(static_cast<size_t>(n));
  }
}

}  // namespace

Fd& Fd::operator=(Fd&& o) noexcept {
  if (this != &o) {
    if (fd_ >= 0) {
      ::close(fd_);
    }
    fd_ = o.release();
  }
  return *this;
}

Fd::~Fd() {
  if (fd_ >= 0) {
    ::close(fd_);  // Linux releases the number even on EINTR: never retried
  }
}

Fd open_file(const std::filesystem::path& path, int flags, int mode) {
  for (;;) {
    int fd = ::open(path.c_str(), flags | O_CLOEXEC, mode);
    if (fd >= 0) {
      return Fd(fd);
    }
    if (errno != EINTR) {
      throw system_error((flags & O_ACCMODE) == O_RDONLY ? "can't read" : "can't open",
                         path.string(), errno);
    }
  }
}

Bytes read_fd(int fd, std::string_view name, uint64_t limit) {
  Bytes out;
  struct stat st {};
  if (::fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0) {
    // A hint only; one byte more lets the end be seen without growing the buffer.
    out.resize(std::min<uint64_t>(static_cast<uint64_t>(st.st_size), limit) + 1);
  }
  size_t used = 0;
  for (;;) {
    if (used == out.size()) {
      out.resize(std::max<size_t>(65536, out.size() * 2));
    }
    ssize_t n = ::read(fd, out.data() + used, out.size() - used);
    if (n < 0) {
      if (errno == EINTR) {
        continue;
      }
      throw system_error("can't read", std::string(name), errno);
    }
    if (n == 0) {
      break;
    }
    used += static_cast<size_t>(n);
    if (used > limit) {
      throw bad_file(name, fmt::format("it is larger than the limit of {} bytes", limit));
    }
  }
  out.resize(used);
  return out;
}

Bytes read_file(const std::filesystem::path& path, uint64_t limit) {
  Fd fd = open_file(path, O_RDONLY);
  return read_fd(fd.get(), path.string(), limit);
}

std::string read_text(const std::filesystem::path& path) {
  Bytes bytes = read_file(path);
  return std::string(as_text(bytes));
}

void write_file(const std::filesystem::path& path, ByteView content, int mode) {
  static std::atomic<unsigned> counter{0};
  std::filesystem::path beside = path;
  beside.replace_filename(
      fmt::format(".{}.{}.{}", path.filename().string(), ::getpid(), counter++));
  int raw = ::open(beside.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
  if (raw < 0) {
    throw system_error("can't write", path.string(), errno);
  }
  Fd fd(raw);
  try {
    write_all(fd.get(), content, path);
    if (::fsync(fd.get()) != 0 && errno != EINVAL && errno != EROFS) {
      throw system_error("can't write", path.string(), errno);
    }
    if (::rename(beside.c_str(), path.c_str()) != 0) {
      throw system_error("can't write", path.string(), errno);
    }
  } catch (...) {
    ::unlink(beside.c_str());
    throw;
  }
}

TempDir::TempDir(std::string_view prefix) {
  const char* root = std::getenv("TMPDIR");
  std::string pattern = fmt::format("{}/{}{}", root != nullptr && root[0] == '/' ? root : "/tmp",
                                    prefix, std::string(6, 'X'));  // mkdtemp(3) wants six
  if (::mkdtemp(pattern.data()) == nullptr) {
    throw system_error("can't make a temporary directory", pattern, errno);
  }
  path_ = pattern;
}

TempDir::~TempDir() {
  if (!path_.empty()) {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
}

}  // namespace qp
