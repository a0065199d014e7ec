// Makes the commands of a test fail, or die, at a step (base/fault.h).
#pragma once

#include <cstdlib>
#include <string>
#include <string_view>

namespace qp::live {

// As long as it lives. `how`: the variable that fault_point() reads.
class FaultPoint {
 public:
  explicit FaultPoint(std::string_view name, const char* how = "QPATCH_FAULT") : how_(how) {
    setenv(how_, std::string(name).c_str(), 1);
  }
  FaultPoint(const FaultPoint&) = delete;
  FaultPoint& operator=(const FaultPoint&) = delete;
  ~FaultPoint() { unsetenv(how_); }

 private:
  const char* how_;
};

}  // namespace qp::live
