#include "harness/stopped_command.h"

#include <csignal>
#include <cstdlib>
#include <filesystem>

#include <unistd.h>

namespace qp::live {
namespace {

// A child of ours that is stopped by a signal (/proc/PID/stat: "PID (name) T PPID"); 0: none.
pid_t find_stopped_child() {
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") != std::string::npos) {
      continue;
    }
    const std::string stat = read_text(entry.path() / "stat");
    const size_t end = stat.rfind(')');
    if (end != std::string::npos && stat.compare(end, 4 + std::to_string(getpid()).size() + 1,
                                                 ") T " + std::to_string(getpid()) + " ") == 0) {
      return std::stoi(name);
    }
  }
  return 0;
}

}  // namespace

StoppedCommand::StoppedCommand(const std::string& point, std::function<CommandResult()> command) {
  setenv("QPATCH_FAULT_STOP", point.c_str(), 1);
  result_ = std::async(std::launch::async, std::move(command));
  while (pid_ == 0 && result_.wait_for(std::chrono::milliseconds(1)) != std::future_status::ready) {
    pid_ = find_stopped_child();
  }
  unsetenv("QPATCH_FAULT_STOP");
}

StoppedCommand::~StoppedCommand() {
  if (result_.valid()) {
    go_on();
  }
}

CommandResult StoppedCommand::go_on() {
  if (pid_ != 0) {
    kill(pid_, SIGCONT);
  }
  return result_.get();
}

}  // namespace qp::live
