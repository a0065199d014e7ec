// Hooks of a patch, run in its process on a borrowed thread (include/qpatch/hooks.h says what they
// may do).
#pragma once

#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

#include "apply/apply.h"
#include "apply/registry.h"
#include "base/report.h"
#include "proc/freeze.h"
#include "proc/function_call.h"

namespace qp::apply {

// A hook that has to return 0 did not. Hooks::findings() say more when the process runs again.
class HookFailed : public std::runtime_error {
 public:
  HookFailed() : std::runtime_error("a hook failed") {}
};

class Hooks {
 public:
  using When = format::Hook::When;
  using Others = format::Hook::Others;

  // Those of all parts of a patch, in the parts' order.
  Hooks(const proc::Process& process, std::string patch_id,
        const std::vector<const Registry*>& parts, const Options& options);
  Hooks(const Hooks&) = delete;
  Hooks& operator=(const Hooks&) = delete;
  ~Hooks();  // removes the stack

  bool has(When when) const;
  bool has_stopped(std::initializer_list<When> whens) const;
  // Maps the stack if there are hooks of one of these kinds. Throws Refused{hook-impossible},
  // Error{system}, Error{no-thread}; then nothing is left.
  void prepare(std::initializer_list<When> whens);
  // Those that run while the others do, and those for which all stand still, in order. After the
  // first that fails: throws HookFailed if `when` is a kind that can refuse, else goes on with the
  // next. Throws Error{unresponsive} for a hook that can't be stopped; then stuck() is true.
  void run(When when);
  void run(When when, proc::Frozen& frozen);
  // The same behind the switch, where nothing that fails undoes anything: never throws.
  void run_after(When when, proc::Frozen* frozen) noexcept;
  // What went wrong, in words; while the process runs.
  std::vector<Refusal> findings() const;
  bool ran() const { return ran_; }      // code of the image has run
  bool stuck() const { return stuck_; }  // and still does: image and stack have to stay
  // Unmaps the stack. Says in `outcome.notes` if that was not possible.
  void remove_stack(Outcome& outcome);

 private:
  struct Known {
    RegistryHook hook;
    LiveAddr returns_to, asked;
  };
  struct Failure {
    RegistryHook hook;
    proc::CallEnd end;
    std::string message;  // the hook's own
  };
  template <class Call>
  void run_all(When when, Others others, const Call& call);
  proc::FunctionCall make_call(const Known& known) const;
  void note_end(const RegistryHook& hook, const proc::CallEnd& end);
  void restore_errno() const;
  Refusal describe_failure(const Failure& failure) const;

  const proc::Process& process_;
  const std::string patch_id_;
  std::vector<Known> hooks_;
  std::optional<std::chrono::milliseconds> timeout_;
  std::optional<LiveRange> mapping_;  // guard page, stack, context
  std::vector<Failure> failures_;
  std::vector<Refusal> others_;  // what kept hooks behind the switch from running
  bool ran_ = false, stuck_ = false;
};

// Said of an image in which a hook has not ended.
inline constexpr const char* kHookStuck =
    "image kept mapped: a hook still runs in it; `qpatch recover` takes it away later";

// How the mapping of the stack is named.
bool is_hook_stack_name(std::string_view name);

// Whether a process can run hooks at all. Finding: hook-impossible.
void check_hooks(const proc::Process& process, const std::string& patch_id, Report& report);

// Unmaps stacks that interrupted runs left behind. Nullopt: there was none; else whether all are gone:
// a thread can still be on one.
std::optional<bool> remove_left_stacks(const proc::Process& process);

}  // namespace qp::apply
