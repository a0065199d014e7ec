// A real-time priority for the calling thread, for as long as threads of a process stand still.
#pragma once

namespace qp::proc {

class RaisedPriority {
 public:
  // Raises if the kernel lets us; a thread that is real-time already stays as it is.
  RaisedPriority();
  RaisedPriority(const RaisedPriority&) = delete;
  RaisedPriority& operator=(const RaisedPriority&) = delete;
  ~RaisedPriority();  // gives the old priority back; on the same thread

 private:
  enum class How { Nothing, RealTime, Nice } how_ = How::Nothing;
  int old_policy_ = 0, old_nice_ = 0;
};

}  // namespace qp::proc
