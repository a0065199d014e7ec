// Who is inside: which threads of a frozen process would run, or return into, given code.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apply/apply.h"
#include "apply/contexts.h"
#include "proc/freeze.h"
#include "unwind/unwind.h"

namespace qp::apply {

// What a look at the stacks of a frozen process gave. Values only: it can be interpreted after the
// process runs again.
struct Inside {
  pid_t tid = 0;
  LiveAddr at;                   // inside: the program counter, or the call that will return there
  std::vector<LiveAddr> frames;  // innermost first, as far as unwound
  std::string reason;
  proc::GeneralRegisters registers{};  // of the thread
};

class StackCheck {
 public:
  // `ranges`: sorted, disjoint (normalise()); where no thread may be. `for_contexts`: likewise, where
  // nobody may be suspended who is on the own stack of a thread that runs on another one now.
  StackCheck(const proc::Process& process, std::vector<LiveRange> ranges,
             std::vector<LiveRange> for_contexts);

  // Reads maps and reserves memory; call right before freezing.
  void prepare();
  // Loads unwind tables for all modules; slow (milliseconds), so never called while frozen.
  void prepare_unwinding();
  // Unwinds the threads that hit in the last look(), as they were then, and forgets the outcome: so
  // that the tables are warm (read, parsed, paged in) when it counts.
  void rehearse();
  bool can_unwind() const { return can_unwind_; }

  enum class Answer {
    Clear,       // nobody is inside
    Busy,        // somebody is, see inside()
    NeedsUnwind  // a word on a stack hits, and prepare_unwinding() was not called yet
  };
  Answer look(const proc::Frozen& frozen);
  const std::vector<Inside>& inside() const { return inside_; }

 private:
  struct Stack {
    size_t thread;    // of Frozen::threads()
    LiveRange range;  // what is alive of it
    // This is a part of the thread's own one, while it runs on another.
    std::optional<LiveRange> left;
  };
  // A thread with a word that hits.
  struct Hit {
    proc::StoppedThread thread;
    bool on_live_stack = false;     // or its program counter
    std::optional<LiveRange> left;  // another word is on the stack that it has left
    uint64_t word = 0;
  };
  void find_stacks(const proc::Frozen& frozen);
  void scan_stacks(const proc::Frozen& frozen);
  void add_left_stack(size_t index, const proc::StoppedThread& thread, LiveRange mapping);
  void add_interrupted(const proc::StoppedThread& thread, const Stack& stack, ByteView part);
  void note_hit(const proc::StoppedThread& thread, const Stack& stack,
                std::optional<uint64_t> word);
  bool read_by_parts(LiveRange stack, const std::function<void(ByteView)>& look);
  const proc::Mapping* find_stack_mapping(LiveAddr sp);
  const proc::Mapping* stack_mapping(LiveAddr sp) const;
  unwind::Trace unwind_thread(const proc::StoppedThread& thread) const;
  void judge_frames(const proc::StoppedThread& thread, unwind::Trace trace);
  void judge(const Hit& hit);
  bool is_hit_above(const proc::StoppedThread& thread, LiveAddr from);

  const proc::Process& process_;
  std::vector<LiveRange> ranges_, for_contexts_;
  proc::Pagemap pagemap_;
  std::vector<proc::Mapping> mappings_;
  bool maps_are_fresh_ = false;
  std::vector<unwind::CodeModule> modules_;
  std::shared_ptr<unwind::WalkedCode> walked_;
  std::vector<Stack> stacks_;
  Bytes buffer_;
  std::vector<Inside> inside_;
  std::vector<Hit> hits_;  // of the last look()
  bool can_unwind_ = false;
};

// The same for a suspended context, which belongs to no thread.
std::vector<BusyThread> describe(const SuspendedContext& context, const proc::Process& process,
                                 const std::vector<proc::Module>& modules,
                                 const std::vector<NamedCode>& names);

// For the report: names of threads and functions, looked up while the process runs.
std::vector<BusyThread> describe(const proc::Process& process, const std::vector<Inside>& inside,
                                 const std::vector<proc::Module>& modules,
                                 const std::vector<NamedCode>& names);

}  // namespace qp::apply
