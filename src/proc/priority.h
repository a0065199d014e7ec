// A real-time priority for the calling thread, for as long as threads of a process stand still.
#pragma once

namespace qp::proc {

class RaisedPriority {
 public:
  // Raises if the kernel lets us; a thread that is real-time already stays as it is. Several can live
  // at once, on the same thread, in any order: the last one that goes gives the old priority back.
  RaisedPriority();
  RaisedPriority(const RaisedPriority&) = delete;
  RaisedPriority& operator=(const RaisedPriority&) = delete;
  ~RaisedPriority();
};

}  // namespace qp::proc
