// Starts a victim and talks to it by lines. The victim never sleeps to wait for us and we never
// sleep to wait for it: `ready` says that it is up, an answer says that the work is done. A victim
// that crashed or hangs shows as an exception with what it did last, within the time limit.

#include "harness/victim.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <stdexcept>

namespace qp::live {

namespace {

constexpr int kPatience = 30'000;  // ms; a sign of life is expected in far less on any machine

std::string how_it_ended(int status) {
  return WIFSIGNALED(status) ? "was killed by signal " + std::to_string(WTERMSIG(status))
                             : "exited with " + std::to_string(WEXITSTATUS(status));
}

}  // namespace

Victim::Victim(const std::filesystem::path& program, const std::optional<std::string>& argument) {
  int in[2];
  int out[2];
  if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0) {
    throw std::runtime_error("pipe: " + std::string(strerror(errno)));
  }
  pid_ = fork();
  if (pid_ == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(in[0], 0);
    dup2(out[1], 1);
    execl(program.c_str(), program.c_str(), argument ? argument->c_str() : nullptr, nullptr);
    _exit(127);
  }
  close(in[0]);
  close(out[1]);
  to_ = in[1];
  from_ = out[0];
  const std::string first = hear();
  if (first != "ready") {
    throw std::runtime_error("the victim said '" + first + "' and not 'ready'");
  }
}

Victim::~Victim() {
  if (pid_ > 0) {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  close(to_);
  close(from_);
}

void Victim::tell(const std::string& request) {
  const std::string line = request + "\n";
  // A victim that is gone is found by hear(); SIGPIPE would kill the test without a word.
  signal(SIGPIPE, SIG_IGN);
  if (write(to_, line.data(), line.size()) != static_cast<ssize_t>(line.size())) {
    throw std::runtime_error("the victim does not read: " + std::string(strerror(errno)));
  }
}

std::string Victim::hear() {
  for (;;) {
    const size_t end = pending_.find('\n');
    if (end != std::string::npos) {
      const std::string line = pending_.substr(0, end);
      pending_.erase(0, end + 1);
      return line;
    }
    pollfd entry{from_, POLLIN, 0};
    if (poll(&entry, 1, kPatience) == 0) {
      throw std::runtime_error("the victim is silent");
    }
    char buffer[4096];
    const ssize_t got = read(from_, buffer, sizeof buffer);
    if (got <= 0) {
      int status = 0;
      waitpid(pid_, &status, 0);
      pid_ = -1;
      throw std::runtime_error("the victim " + how_it_ended(status));
    }
    pending_.append(buffer, static_cast<size_t>(got));
  }
}

std::string Victim::ask(const std::string& request) {
  tell(request);
  return hear();
}

int Victim::finish() {
  close(to_);
  to_ = -1;
  char buffer[4096];
  pollfd entry{from_, POLLIN, 0};
  // Its end of the pipe closes when it exits.
  while (poll(&entry, 1, kPatience) > 0) {
    if (read(from_, buffer, sizeof buffer) <= 0) {
      break;
    }
  }
  int status = 0;
  if (waitpid(pid_, &status, WNOHANG) == 0) {
    // The pipe can close a moment before the process is reaped; a hang ends by the test's timeout.
    waitpid(pid_, &status, 0);
  }
  pid_ = -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace qp::live
