// What a transaction does when a step fails can't be left to luck: each step has a name, and a test
// makes each fail in turn. The check is one look at a cached pointer, so it stays in the release.

#include "base/fault.h"

#include <signal.h>

#include <algorithm>
#include <cstdlib>
#include <string>

#include "base/error.h"

namespace qp {
namespace {

// "NAME", or "NAME:3" for the third time that the point is reached.
class Wish {
 public:
  explicit Wish(const char* variable) {
    const char* value = std::getenv(variable);
    if (value == nullptr) {
      return;
    }
    name_ = value;
    if (const size_t colon = name_.find(':'); colon != std::string::npos) {
      left_ = std::atoi(name_.c_str() + colon + 1);
      name_.resize(colon);
    }
  }
  bool comes_true(std::string_view name) { return name == name_ && --left_ == 0; }

 private:
  std::string name_;
  int left_ = 1;
};

}  // namespace

const std::vector<std::string_view>& all_fault_points() {
  static const std::vector<std::string_view> points = {
      "plan.done",       // everything is computed, nothing touched
      "stage.borrowed",  // a thread is stopped with borrowed registers
      "stage.opened",    // the image file is open in the process
      "stage.mapped",    // the image is mapped
      "stage.written",   // its values and the registry are written
      "stage.done",      // the thread has gone home
      "hook.mapped",     // the stack of the hooks is mapped
      "hook.entered",    // a hook is about to run its first instruction
      "hook.late",       // a hook has overrun its deadline, and is about to be ended
      "hook.done",       // the hooks have run that run while the process does
      "switch.looked",   // no suspended context was found; the process runs
      "switch.frozen",   // all threads stand still
      "hook.stopped",    // so have those for which everything stands still
      "commit.begun",    // the registry says committing
      "commit.detour",   // one detour is written
      "commit.finish",   // the registry is about to say applied
      "switch.acted",    // all is written, and all threads stand still yet; also of a revert
      "commit.done",     // the patch is applied; contexts are looked for once more
      "revert.begun",    // the registry says reverting
      "revert.detour",   // one entry is restored
      "revert.finish",   // the registry is about to say reverted
  };
  return points;
}

void fault_point(std::string_view name) {
  const auto& points = all_fault_points();
  QP_ASSERT(std::find(points.begin(), points.end(), name) != points.end());
  static Wish fatal("QPATCH_FAULT_KILL"), pausing("QPATCH_FAULT_STOP"), failing("QPATCH_FAULT");
  if (fatal.comes_true(name)) {
    ::raise(SIGKILL);
  }
  if (pausing.comes_true(name)) {
    ::raise(SIGSTOP);
  }
  if (failing.comes_true(name)) {
    throw Error("fault", "a test made this step fail:", std::string(name), "injected fault");
  }
}

}  // namespace qp
