// Reading /proc/PID without being fooled.
//
// Three things make it harder than it looks. A task's name can hold any byte but NUL, also ") R 0 "
// and newlines: in `stat` the fields start behind the *last* parenthesis, in `status` the kernel
// escapes the newline (Linux fs/proc/array.c: proc_task_name). A thread can die between any two
// system calls: ENOENT, ESRCH and an empty read all mean "gone". And the thread group leader may be
// dead while the process lives on (its main thread called pthread_exit); then /proc/PID/maps, mem
// and exe are empty while those of every other thread are not, so nothing here reads /proc/PID/X
// where /proc/PID/task/TID/X exists.

#include "proc/procfs.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <memory>

#include <fmt/format.h>

#include "base/error.h"

namespace qp::proc {
namespace {

bool means_gone(int error_number) {
  return error_number == ENOENT || error_number == ESRCH;
}

template <class T>
T number(std::string_view text, int base = 10) {
  T out = 0;
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) {
    text.remove_prefix(1);
  }
  std::from_chars(text.data(), text.data() + text.size(), out, base);
  return out;
}

// The rest of the line that starts with `key`.
std::string_view field(std::string_view text, std::string_view key) {
  size_t at = text.find(key);
  if (at == std::string_view::npos) {
    return {};
  }
  at += key.size();
  return text.substr(at, text.find('\n', at) - at);
}

}  // namespace

std::optional<std::string> read_task_file(pid_t pid, pid_t tid, const char* name) {
  std::string path = fmt::format("/proc/{}/task/{}/{}", pid, tid, name);
  Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) {
    if (means_gone(errno)) {
      return std::nullopt;
    }
    throw system_error("can't open", path, errno);
  }
  std::string out;
  // maps hands out whole lines only, at most one buffer or one page at a time. Most files are a few
  // words, and there is one for each of 10,000 threads.
  constexpr size_t kFirst = size_t{2} << 10, kPiece = size_t{64} << 10;
  for (;;) {
    size_t had = out.size();
    const size_t room = had == 0 ? kFirst : kPiece;
    out.resize(had + room);
    ssize_t n = ::read(fd.get(), out.data() + had, room);
    out.resize(had + static_cast<size_t>(std::max<ssize_t>(n, 0)));
    if (n == 0) {
      return out;
    }
    if (n < 0) {
      if (errno == EINTR) {
        continue;
      }
      if (means_gone(errno)) {
        return std::nullopt;
      }
      throw system_error("can't read", path, errno);
    }
  }
}

TaskStat parse_stat(std::string_view text) {
  TaskStat out;
  size_t at = text.rfind(')');
  if (at == std::string_view::npos) {
    return out;
  }
  text.remove_prefix(at + 1);
  // Field 3 (state) follows; ppid is field 4, flags 9, num_threads 20, starttime 22, startstack 28
  // (proc_pid_stat(5)).
  for (int index = 3; !text.empty() && index <= 28; ++index) {
    text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
    std::string_view word = text.substr(0, text.find(' '));
    if (index == 3 && !word.empty()) {
      out.state = word.front();
    } else if (index == 4) {
      out.parent = number<pid_t>(word);
    } else if (index == 9) {
      out.flags = number<uint64_t>(word);
    } else if (index == 20) {
      out.threads = number<int>(word);
    } else if (index == 22) {
      out.start = number<uint64_t>(word);
    } else if (index == 28) {
      out.stack = number<uint64_t>(word);
    }
    text.remove_prefix(word.size());
  }
  return out;
}

TaskStatus parse_status(std::string_view text) {
  TaskStatus out;
  out.tracer = number<pid_t>(field(text, "\nTracerPid:"));
  out.seccomp = number<int>(field(text, "\nSeccomp:"));
  out.blocked = number<uint64_t>(field(text, "\nSigBlk:"), 16);
  out.ignored = number<uint64_t>(field(text, "\nSigIgn:"), 16);
  out.caught = number<uint64_t>(field(text, "\nSigCgt:"), 16);
  return out;
}

std::optional<TaskStat> read_task_stat(pid_t pid, pid_t tid) {
  auto text = read_task_file(pid, tid, "stat");
  if (!text || text->empty()) {
    return std::nullopt;
  }
  return parse_stat(*text);
}

std::optional<TaskStatus> read_task_status(pid_t pid, pid_t tid) {
  auto text = read_task_file(pid, tid, "status");
  if (!text || text->empty()) {
    return std::nullopt;
  }
  return parse_status(*text);
}

std::optional<uint64_t> find_auxiliary(pid_t pid, uint64_t type) {
  const auto task = find_live_task(pid);
  const auto text = task ? read_task_file(pid, *task, "auxv") : std::nullopt;
  if (!text) {
    return std::nullopt;
  }
  const ByteView entries = as_bytes(*text);
  for (size_t at = 0; at + 16 <= entries.size(); at += 16) {
    if (load<uint64_t>(entries, at) == type) {
      return load<uint64_t>(entries, at + 8);
    }
  }
  return std::nullopt;
}

std::vector<pid_t> list_tasks(pid_t pid) {
  std::string path = fmt::format("/proc/{}/task", pid);
  std::unique_ptr<DIR, int (*)(DIR*)> dir(::opendir(path.c_str()), ::closedir);
  if (!dir) {
    if (means_gone(errno)) {
      return {};
    }
    throw system_error("can't open", path, errno);
  }
  std::vector<pid_t> out;
  while (const dirent* entry = ::readdir(dir.get())) {
    if (pid_t tid = number<pid_t>(entry->d_name); tid > 0) {
      out.push_back(tid);
    }
  }
  std::sort(out.begin(), out.end());
  return out;
}

std::optional<pid_t> find_live_task(pid_t pid) {
  auto lives = [&](pid_t tid) {
    auto stat = read_task_stat(pid, tid);
    return stat && !stat->dead();
  };
  if (lives(pid)) {
    return pid;
  }
  for (pid_t tid : list_tasks(pid)) {
    if (tid != pid && lives(tid)) {
      return tid;
    }
  }
  return std::nullopt;
}

std::string printable(std::string_view text) {
  std::string out;
  for (char c : text) {
    auto u = static_cast<unsigned char>(c);
    if (u < 0x20 || u == 0x7f) {
      out += fmt::format("\\{:03o}", u);
    } else {
      out += c;
    }
  }
  return out;
}

}  // namespace qp::proc
