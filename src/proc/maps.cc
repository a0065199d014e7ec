// One line of maps: "559d0e600000-559d0e628000 r-xp 00028000 fe:01 1835213     /usr/bin/foo".
//
// The name is the rest of the line behind the padding. It can hold spaces, and anything else that
// a path may hold, but no newline (Linux fs/seq_file.c: seq_path escapes it as "\012" and nothing
// else). " (deleted)" at its end is the kernel's word for an unlinked file; a file can also be
// *called* that way, which is why a name from here is shown to people and never opened without a
// comparison of device and inode.

#include "proc/maps.h"

#include <sys/sysmacros.h>

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "base/error.h"

namespace qp::proc {
namespace {

class Line {
 public:
  explicit Line(std::string_view text) : all_(text), left_(text) {}

  template <class T>
  T number(int base, char then) {
    T out = 0;
    auto [end, error] = std::from_chars(left_.data(), left_.data() + left_.size(), out, base);
    if (error != std::errc{}) {
      fail();
    }
    left_.remove_prefix(static_cast<size_t>(end - left_.data()));
    if (then != 0) {
      expect(then);
    }
    return out;
  }
  void expect(char c) {
    if (left_.empty() || left_.front() != c) {
      fail();
    }
    left_.remove_prefix(1);
  }
  char take() {
    if (left_.empty()) {
      fail();
    }
    char c = left_.front();
    left_.remove_prefix(1);
    return c;
  }
  std::string_view rest() {
    left_.remove_prefix(std::min(left_.find_first_not_of(' '), left_.size()));
    return left_;
  }

 private:
  [[noreturn]] void fail() const {
    throw bad_file("/proc/PID/maps", fmt::format("line '{}'", all_));
  }
  std::string_view all_, left_;
};

Mapping parse_line(std::string_view text) {
  Line line(text);
  Mapping m;
  m.range.start = LiveAddr(line.number<uint64_t>(16, '-'));
  m.range.end = LiveAddr(line.number<uint64_t>(16, ' '));
  m.readable = line.take() == 'r';
  m.writable = line.take() == 'w';
  m.executable = line.take() == 'x';
  m.shared = line.take() == 's';
  line.expect(' ');
  m.offset = line.number<uint64_t>(16, ' ');
  auto major_number = line.number<unsigned>(16, ':');
  auto minor_number = line.number<unsigned>(16, ' ');
  m.device = makedev(major_number, minor_number);
  m.inode = line.number<uint64_t>(10, 0);
  std::string_view name = line.rest();
  constexpr std::string_view kDeleted = " (deleted)";
  if (name.ends_with(kDeleted)) {
    name.remove_suffix(kDeleted.size());
    m.deleted = true;
  }
  m.name = name;
  return m;
}

}  // namespace

std::vector<Mapping> parse_maps(std::string_view text) {
  std::vector<Mapping> out;
  while (!text.empty()) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    if (!line.empty()) {
      out.push_back(parse_line(line));
    }
  }
  return out;
}

}  // namespace qp::proc
