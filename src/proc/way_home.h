// A way back for a borrowed thread whose borrower has died: a signal frame on its stack.
#pragma once

#include <optional>
#include <vector>

#include "proc/process.h"
#include "proc/saved_thread.h"

namespace qp::proc {

// Code of the process that the way leads through; found while it runs.
struct HomeCode {
  LiveAddr call;      // syscall; ret
  LiveAddr restorer;  // mov $15,%rax; syscall (rt_sigreturn)
};
std::optional<HomeCode> find_home_code(const Process& process,
                                       const std::vector<Mapping>& mappings);

// A signal frame for rt_sigreturn, with the vector state behind it: bytes of the process's memory.
struct HomeFrame {
  LiveAddr at;  // of the frame; its first word is the restorer's address
  Bytes bytes;  // of [at, end), `end` as given
};
// The frame that makes a thread what `saved` is. It ends below `end`, and its address is `beyond`
// (0 or 8) bytes behind a multiple of 16. Nullopt if the state can't be put into a frame.
std::optional<HomeFrame> make_home_frame(const SavedThread& saved, LiveAddr end, LiveAddr restorer,
                                         uint64_t beyond = 0);

class WayHome {
 public:
  // Writes the frame below the red zone of the stopped thread's stack. Nullopt if that stack has no
  // room that is known to be its own, or the state can't be put into a frame; then nothing was
  // written.
  static std::optional<WayHome> lay(const Process& process, const std::vector<Mapping>& mappings,
                                    const SavedThread& saved, LiveAddr restorer);
  // Stack pointer for a call at HomeCode::call.
  LiveAddr stack() const { return frame_; }
  // Room on the stack that the borrower may write to: kScratch bytes.
  LiveAddr scratch() const { return overwritten_at_; }
  static constexpr uint64_t kScratch = 512;
  // Puts back what was there. When the thread has its own registers again.
  void remove(const Process& process) const;

 private:
  LiveAddr frame_, overwritten_at_;
  Bytes overwritten_;
};

}  // namespace qp::proc
