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

// A somewhat better nice value for the calling thread, while nobody stands still. Nothing where the
// operator has given it another one than 0, or the kernel does not let us.
class BetterNice {
 public:
  BetterNice();
  BetterNice(const BetterNice&) = delete;
  BetterNice& operator=(const BetterNice&) = delete;
  ~BetterNice();  // gives 0 back; on the same thread

 private:
  bool better_ = false;
};

}  // namespace qp::proc
