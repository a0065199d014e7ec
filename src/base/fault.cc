// What a transaction does when a step fails can't be left to luck: each step has a name, and a test
// makes each fail in turn. The check is one look at a cached pointer, so it stays in the release.

#include "base/fault.h"

#include <signal.h>

#include <algorithm>
#include <cstdlib>
#include <string>

#include "base/error.h"

namespace qp {

const std::vector<std::string_view>& all_fault_points() {
  static const std::vector<std::string_view> points = {
      "plan.done",       // everything is computed, nothing touched
      "stage.borrowed",  // a thread is stopped with borrowed registers
      "stage.opened",    // the image file is open in the process
      "stage.mapped",    // the image is mapped
      "stage.written",   // its values and the registry are written
      "stage.done",      // the thread has gone home
      "switch.looked",   // no suspended context was found; the process runs
      "switch.frozen",   // all threads stand still
      "commit.begun",    // the registry says committing
      "commit.detour",   // one detour is written
      "commit.done",     // the patch is applied; contexts are looked for once more
      "revert.begun",    // the registry says reverting
      "revert.detour",   // one entry is restored
  };
  return points;
}

void fault_point(std::string_view name) {
  const auto& points = all_fault_points();
  QP_ASSERT(std::find(points.begin(), points.end(), name) != points.end());
  static const char* const fatal = std::getenv("QPATCH_FAULT_KILL");
  if (fatal != nullptr && name == fatal) {
    ::raise(SIGKILL);
  }
  static const char* pausing = std::getenv("QPATCH_FAULT_STOP");
  if (pausing != nullptr && name == pausing) {
    pausing = nullptr;
    ::raise(SIGSTOP);
  }
  static const char* const wanted = std::getenv("QPATCH_FAULT");
  if (wanted != nullptr && name == wanted) {
    throw Error("fault", "a test made this step fail:", std::string(name), "injected fault");
  }
}

}  // namespace qp
