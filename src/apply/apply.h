// The transaction: plan, stage, freeze, check, commit or roll back. All or nothing per process.
#pragma once

#include <chrono>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "apply/registry.h"
#include "base/report.h"
#include "format/patch.h"
#include "proc/process.h"

namespace qp::apply {

// Who may be in old code at the switch. Memory safety is never waived: no program counter and no
// return address in the bytes that are overwritten.
enum class Consistency : uint8_t {
  Process,  // nobody, suspended contexts (coroutines, jmp_bufs) included
  Thread,   // no thread; contexts that are suspended inside finish old code
  None,     // anybody: threads that are inside finish old code
};

struct Options {
  Consistency consistency = Consistency::Process;
  std::chrono::milliseconds timeout{10'000};  // how long to try while a thread is inside
  std::filesystem::path image_store = "/run/qpatch/images";
  // Of each hook; nullopt: 1 s while everything stands still, else 10 s.
  std::optional<std::chrono::milliseconds> hook_timeout;
  // Ids of patches that make room for the one that is applied, besides those that it says itself.
  std::vector<std::string> replaces;
  bool map_from_memfd = false;  // also chosen by itself where the process can't open the store
};

// Code whose name the process's files may have lost.
struct NamedCode {
  LiveRange range;
  std::string function;
};

// A thread that keeps a process busy.
struct BusyThread {
  pid_t tid = 0;
  std::string name;                 // comm
  std::string function;             // the replaced function it is in
  std::vector<std::string> frames;  // "0x5581… compose_dec_ttl+0x1f", innermost first
  std::string reason;     // "return address on the stack", "stack could not be unwound: …"
  std::string waits_for;  // "futex at 0x7f…"; "": it ran
  int seen = 1;           // in how many attempts
};

enum class Verdict {
  Patched,
  AlreadyApplied,
  Reverted,
  NotApplied,
  Patchable /* check */,
  Recovered,
  NothingToRecover,
  Busy,
  Unpatchable,
  Gone,
};

// What an interrupted run had left of a patch, and is undone.
struct Undone {
  std::string patch_id;
  size_t writes = 0;
};

struct Outcome {
  pid_t pid = 0;
  std::string program;
  Verdict verdict = Verdict::Unpatchable;
  std::string patch_id;
  std::vector<std::string> superseded;  // patches whose place it took, or would take
  size_t functions = 0;
  std::chrono::nanoseconds pause{};  // of the freeze that succeeded
  std::chrono::nanoseconds longest_pause{};
  int attempts = 0;
  std::vector<Refusal> refusals;  // Unpatchable
  std::vector<Refusal>
      failed_hooks;                // of hooks behind the switch; Patched or Reverted all the same
  std::vector<BusyThread> busy;    // Busy
  std::vector<std::string> notes;  // "image kept mapped: …"
  std::vector<Undone> undone;      // Recovered; can be none, where no image was left
};

// Findings end in the Outcome; failures are thrown (Error). Every one is all or nothing. apply and
// revert first undo what an interrupted run left.
Outcome apply(pid_t pid, const format::PatchFile& patch, const Options& options);
// Never writes.
Outcome check(pid_t pid, const format::PatchFile& patch, const Options& options);
Outcome revert(pid_t pid, const std::string& patch_id, const Options& options);
// Undoes whatever interrupted runs left in the process.
Outcome recover(pid_t pid, const Options& options);

// What the registries in the process say (and what reading them back finds wrong), one for each
// image: a patch with several parts has several, of one id.
struct Applied {
  Registry registry;
  bool intact = true;        // detours are what the registry says
  bool interrupted = false;  // half done: recover() undoes it, and apply() and revert() do so first
  std::vector<std::string> faults;
};
std::vector<Applied> list(const proc::Process& process);
// Who is inside the replaced functions of an applied patch (or would be, of one not applied), now.
std::vector<BusyThread> stacks(pid_t pid, const std::vector<NamedCode>& code);

}  // namespace qp::apply
