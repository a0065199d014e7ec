// Runs a program and waits for it.
//
// Compilers and `patch` are run with arguments that come from files, so no shell is ever involved.
// The caller may be one of several threads, hence between fork and exec only async-signal-safe
// calls are made: the argument vector, the environment, mount options and id maps are all laid out
// before the fork. What fails in the child travels back through a pipe that exec closes: an empty
// pipe means that the program runs, else it holds the step and its errno (so "no such file" for
// the program can be told apart from the program's own exit code 127).
//
// Both output pipes are polled together: a program that fills one while we wait for the other
// would stand still for ever.
//
// Mounts. The compiler has to see changed files at their own paths, while nobody else does and the
// user's tree is never written. A private mount namespace does that: unshare(CLONE_NEWNS), make
// everything private (or the mounts would propagate out of the namespace again: systemd mounts /
// shared), then bind each changed file over the original. A bind can't create or hide a name, so
// directories that gain or lose files get an overlay of lower layers only. Without upperdir the
// overlay is read-only, which needs no support from the file system below (kernel
// Documentation/filesystems/overlayfs.rst, "Multiple lower layers"). Without CAP_SYS_ADMIN the
// same is done inside a user namespace that maps our ids to themselves (user_namespaces(7);
// overlayfs there since Linux 5.11).

#include "base/subprocess.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include <fmt/format.h>

#include "base/error.h"
#include "base/fd.h"

extern char** environ;

namespace qp {
namespace {

enum class Step : int {
  Unshare,
  UserMap,
  Private,
  Overlay,
  Bind,
  Directory,
  Descriptors,
  Exec,
};

struct ChildFailure {
  Step step;
  int index;  // of the mount
  int error_number;
};

struct PreparedOverlay {
  std::string over, options;
};

// Everything that the child needs, laid out before the fork.
struct Prepared {
  std::string program;
  std::vector<char*> argv, envp;
  std::vector<std::string> environment;
  std::vector<PreparedOverlay> overlays;
  std::string uid_map, gid_map;
};

struct Pipe {
  Fd read, write;
};

Pipe make_pipe() {
  std::array<int, 2> fds{};
  if (::pipe2(fds.data(), O_CLOEXEC) != 0) {
    throw system_error("can't make a pipe", "", errno);
  }
  return {Fd(fds[0]), Fd(fds[1])};
}

std::string path_variable(const std::vector<std::string>& environment) {
  for (const std::string& entry : environment) {
    if (entry.starts_with("PATH=")) {
      return entry.substr(5);
    }
  }
  return "/usr/local/bin:/usr/bin:/bin";
}

// execvpe(3)'s rule: a name with a slash is a path (relative to the working directory of the
// program), else each directory of PATH is tried.
std::string find_program(const std::string& name, const std::string& path) {
  if (name.find('/') != std::string::npos) {
    return name;
  }
  size_t at = 0;
  while (at <= path.size()) {
    size_t end = std::min(path.find(':', at), path.size());
    std::string directory = path.substr(at, end - at);
    std::string candidate = fmt::format("{}/{}", directory.empty() ? "." : directory, name);
    if (::access(candidate.c_str(), X_OK) == 0 && !std::filesystem::is_directory(candidate)) {
      return candidate;
    }
    at = end + 1;
  }
  throw system_error("can't start", name, ENOENT);
}

std::string escape_overlay_path(const std::string& path) {
  std::string out;
  for (char c : path) {
    if (c == ':' || c == ',' || c == '\\') {
      out += '\\';
    }
    out += c;
  }
  return out;
}

Prepared prepare(const std::vector<std::string>& argv, const RunOptions& options) {
  QP_ASSERT(!argv.empty());
  Prepared p;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    std::string_view text = *entry;
    if (!options.environment.contains(std::string(text.substr(0, text.find('='))))) {
      p.environment.emplace_back(text);
    }
  }
  for (const auto& [name, value] : options.environment) {
    p.environment.push_back(fmt::format("{}={}", name, value));
  }
  p.program = find_program(argv[0], path_variable(p.environment));
  for (const std::string& argument : argv) {
    p.argv.push_back(const_cast<char*>(argument.c_str()));
  }
  p.argv.push_back(nullptr);
  for (const std::string& entry : p.environment) {
    p.envp.push_back(const_cast<char*>(entry.c_str()));
  }
  p.envp.push_back(nullptr);
  for (const OverlayMount& overlay : options.overlays) {
    p.overlays.push_back({overlay.over.string(),
                          fmt::format("lowerdir={}:{}", escape_overlay_path(overlay.layer.string()),
                                      escape_overlay_path(overlay.over.string()))});
  }
  p.uid_map = fmt::format("{0} {0} 1\n", ::geteuid());
  p.gid_map = fmt::format("{0} {0} 1\n", ::getegid());
  return p;
}

[[noreturn]] void fail(int fd, Step step, int index = 0) {
  ChildFailure failure{step, index, errno};
  // Fails only if the parent is gone, and then nobody wants to know.
  [[maybe_unused]] ssize_t n = ::write(fd, &failure, sizeof failure);
  ::_exit(127);
}

bool write_proc(const char* file, const std::string& text) {
  int fd = ::open(file, O_WRONLY | O_CLOEXEC);
  if (fd < 0) {
    return false;
  }
  bool ok = ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  int saved = errno;
  ::close(fd);
  errno = saved;
  return ok;
}

// In the child: async-signal-safe calls only.
void cover(const RunOptions& options, const Prepared& p, int failure_fd) {
  static const std::string deny = "deny";
  if (::unshare(CLONE_NEWNS) != 0) {
    if (errno != EPERM || ::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) {
      fail(failure_fd, Step::Unshare);
    }
    if (!write_proc("/proc/self/setgroups", deny) || !write_proc("/proc/self/uid_map", p.uid_map) ||
        !write_proc("/proc/self/gid_map", p.gid_map)) {
      fail(failure_fd, Step::UserMap);
    }
  }
  if (::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
    fail(failure_fd, Step::Private);
  }
  for (size_t i = 0; i < p.overlays.size(); ++i) {
    if (::mount("overlay", p.overlays[i].over.c_str(), "overlay", MS_RDONLY,
                p.overlays[i].options.c_str()) != 0) {
      fail(failure_fd, Step::Overlay, static_cast<int>(i));
    }
  }
  for (size_t i = 0; i < options.binds.size(); ++i) {
    if (::mount(options.binds[i].from.c_str(), options.binds[i].over.c_str(), nullptr, MS_BIND,
                nullptr) != 0) {
      fail(failure_fd, Step::Bind, static_cast<int>(i));
    }
  }
}

[[noreturn]] void child(const RunOptions& options, const Prepared& p, int out, int err,
                        int failure_fd) {
  ::signal(SIGPIPE, SIG_DFL);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  if (!options.binds.empty() || !options.overlays.empty()) {
    cover(options, p, failure_fd);
  }
  // After the mounts: the working directory may lie below one of them.
  if (!options.directory.empty() && ::chdir(options.directory.c_str()) != 0) {
    fail(failure_fd, Step::Directory);
  }
  int null = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (null < 0 || ::dup2(null, 0) < 0 || ::dup2(out, 1) < 0 || ::dup2(err, 2) < 0) {
    fail(failure_fd, Step::Descriptors);
  }
  ::execve(p.program.c_str(), p.argv.data(), p.envp.data());
  fail(failure_fd, Step::Exec);
}

[[noreturn]] void throw_failure(const ChildFailure& f, const std::vector<std::string>& argv,
                                const RunOptions& options) {
  std::string on;
  switch (f.step) {
    case Step::Exec:
    case Step::Descriptors:
      throw system_error("can't start", argv[0], f.error_number);
    case Step::Directory:
      throw system_error("can't work in", options.directory.string(), f.error_number);
    case Step::Overlay:
      on = options.overlays.at(static_cast<size_t>(f.index)).over.string();
      break;
    case Step::Bind:
      on = options.binds.at(static_cast<size_t>(f.index)).over.string();
      break;
    case Step::Unshare:
    case Step::UserMap:
    case Step::Private:
      break;
  }
  throw Error("mount-namespace", "can't cover files in a private mount namespace", on,
              system_error("", "", f.error_number).said());
}

// Reads both until both are closed.
void drain(Fd out, Fd err, RunResult& result) {
  std::array<pollfd, 2> polled{{{out.get(), POLLIN, 0}, {err.get(), POLLIN, 0}}};
  std::array<std::string*, 2> into{&result.out, &result.err};
  std::array<char, 65536> buffer{};
  while (polled[0].fd >= 0 || polled[1].fd >= 0) {
    if (::poll(polled.data(), polled.size(), -1) < 0) {
      if (errno == EINTR) {
        continue;
      }
      throw system_error("can't wait for a program", "", errno);
    }
    for (size_t i = 0; i < polled.size(); ++i) {
      if (polled[i].fd < 0 || polled[i].revents == 0) {
        continue;
      }
      ssize_t n = ::read(polled[i].fd, buffer.data(), buffer.size());
      if (n > 0) {
        into[i]->append(buffer.data(), static_cast<size_t>(n));
      } else if (n == 0 || errno != EINTR) {
        polled[i].fd = -1;  // poll(2) ignores negative descriptors
      }
    }
  }
}

int wait_for(pid_t pid) {
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0) {
    if (errno != EINTR) {
      throw system_error("can't wait for a program", "", errno);
    }
  }
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

bool probe(bool overlay) {
  try {
    TempDir dir("qpatch-probe-");
    RunOptions options;
    if (overlay) {
      std::filesystem::create_directory(dir.path() / "layer");
      std::filesystem::create_directory(dir.path() / "over");
      write_file(dir.path() / "layer" / "seen", as_bytes("layer"));
      options.overlays = {{dir.path() / "layer", dir.path() / "over"}};
    } else {
      write_file(dir.path() / "from", as_bytes("layer"));
      write_file(dir.path() / "seen", as_bytes("under"));
      options.binds = {{dir.path() / "from", dir.path() / "seen"}};
    }
    options.directory = overlay ? dir.path() / "over" : dir.path();
    return run({"cat", "seen"}, options).out == "layer";
  } catch (const Error&) {
    return false;
  }
}

}  // namespace

RunResult run(const std::vector<std::string>& argv, const RunOptions& options) {
  Prepared prepared = prepare(argv, options);
  Pipe out = make_pipe(), err = make_pipe(), failure = make_pipe();
  pid_t pid = ::fork();
  if (pid < 0) {
    throw system_error("can't start", argv[0], errno);
  }
  if (pid == 0) {
    child(options, prepared, out.write.get(), err.write.get(), failure.write.get());
  }
  out.write = Fd();
  err.write = Fd();
  failure.write = Fd();

  ChildFailure report{};
  ssize_t n = 0;
  do {
    n = ::read(failure.read.get(), &report, sizeof report);
  } while (n < 0 && errno == EINTR);
  RunResult result;
  drain(std::move(out.read), std::move(err.read), result);
  result.exit_code = wait_for(pid);
  if (n == static_cast<ssize_t>(sizeof report)) {
    throw_failure(report, argv, options);
  }
  return result;
}

bool can_bind_mount() {
  static const bool works = probe(false);
  return works;
}

bool can_overlay_mount() {
  static const bool works = probe(true);
  return works;
}

}  // namespace qp
