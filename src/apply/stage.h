// Staging: the images enter the process while it runs. Nothing refers to them yet.
#pragma once

#include <filesystem>

#include "apply/apply.h"
#include "apply/plan.h"

namespace qp::apply {

// Staged images can do two things, together: become part of the process (keep()) or go away: the
// destructor unmaps them, by borrowing a thread again, or puts a reused one back to state
// `reverted`.
class Staged {
 public:
  // Throws Error{system} (what the kernel said to a mapping), Error{no-thread}, and what
  // proc::Borrowed throws; then nothing is left in the process.
  static Staged stage(const proc::Process& process, const Plan& plan, const Options& options);
  Staged(Staged&& o) noexcept;
  Staged& operator=(Staged&&) = delete;
  ~Staged();
  void keep() { process_ = nullptr; }

 private:
  Staged(const proc::Process& process, const Plan& plan) : process_(&process), plan_(&plan) {}
  const proc::Process* process_;
  const Plan* plan_;
};

// Unmaps images that nothing refers to. False if no thread could be borrowed.
bool unmap_images(const proc::Process& process, const std::vector<LiveRange>& images);

}  // namespace qp::apply
