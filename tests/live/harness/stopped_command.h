// A qpatch command that stands still at a fault point, so that the victim can do something there.
#pragma once

#include <functional>
#include <future>
#include <string>

#include "harness/workdir.h"

namespace qp::live {

class StoppedCommand {
 public:
  // Runs `command` (which starts qpatch) until qpatch has stopped at `point`, or has ended.
  StoppedCommand(const std::string& point, std::function<CommandResult()> command);
  StoppedCommand(const StoppedCommand&) = delete;
  StoppedCommand& operator=(const StoppedCommand&) = delete;
  ~StoppedCommand();  // lets it go on, if go_on() was not called

  bool is_stopped() const { return pid_ != 0; }
  CommandResult go_on();

 private:
  std::future<CommandResult> result_;
  pid_t pid_ = 0;
};

}  // namespace qp::live
