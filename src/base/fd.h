// An owned file descriptor, and whole files as values.
#pragma once

#include <filesystem>
#include <string>
#include <utility>

#include "base/bytes.h"

namespace qp {

class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& o) noexcept : fd_(std::exchange(o.fd_, -1)) {}
  Fd& operator=(Fd&& o) noexcept;
  ~Fd();
  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_ = -1;
};

// open(2) with O_CLOEXEC; throws Error{system}.
Fd open_file(const std::filesystem::path& path, int flags, int mode = 0);
// Whole content; regular files and /proc files alike. Throws Error{system}, and Error{bad-file} if
// the content exceeds `limit` bytes.
Bytes read_file(const std::filesystem::path& path, uint64_t limit = uint64_t{4} << 30);
Bytes read_fd(int fd, std::string_view name, uint64_t limit = uint64_t{4} << 30);
std::string read_text(const std::filesystem::path& path);
// Written beside the target and renamed over it: whole or not at all. Throws Error{system}.
void write_file(const std::filesystem::path& path, ByteView content, int mode = 0644);

// A directory under $TMPDIR that goes away with its owner.
class TempDir {
 public:
  explicit TempDir(std::string_view prefix);
  TempDir(TempDir&& o) noexcept : path_(std::exchange(o.path_, {})) {}
  TempDir& operator=(TempDir&&) = delete;
  ~TempDir();
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace qp
