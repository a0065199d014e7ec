// Running hooks, as a part of a transaction.
//
// A hook runs on a stack of its own, which is mapped beforehand while the process runs, so that
// nothing has to be mapped when everything stands still. It is a private mapping of a memfd: so it
// has a name in /proc/PID/maps by which an interrupted run's is found and taken away. The lowest
// page is a guard. At the upper end lies the context that the hook gets, below it what brings the
// thread home (proc/function_call.h).
//
// All or nothing. A hook before the switch that does not return 0 stops the transaction there; what
// follows is the ordinary way out, with one difference: code of the image has run, and can have
// handed out its address. So the image is not just unmapped, but released as after a revert.
// A hook behind the switch that fails is reported and nothing else: taking the patch out again would
// leave the process in a state that nobody has tested.
//
// errno is the one thing of a thread that lies in its memory and that any call changes. The macros
// save it and put it back; if the hook does not get to its end, it is put back from here.

#include "apply/hooks.h"

#include <sys/mman.h>
#include <sys/syscall.h>

#include <algorithm>
#include <csignal>
#include <cstddef>
#include <cstring>
#include <thread>

#include <fmt/format.h>

#include <qpatch/hooks.h>

#include "apply/occupancy.h"
#include "base/fault.h"
#include "proc/borrow.h"
#include "proc/procfs.h"
#include "proc/way_home.h"

namespace qp::apply {
namespace {

using Context = ::qpatch_hook_context;
static_assert(sizeof(Context) == 512 && offsetof(Context, message) == 48);

constexpr uint64_t kStack = 256 << 10, kMapped = kPageSize + kStack;
constexpr std::string_view kPrefix = "qpatch-", kSuffix = ".hooks";
constexpr auto kStoppedTimeout = std::chrono::seconds(1);
constexpr auto kRunningTimeout = std::chrono::seconds(10);
constexpr auto kEndPatience = std::chrono::seconds(1);

bool failed(int64_t result) {
  return result < 0 && result >= -4095;
}

bool can_refuse(format::Hook::When when) {
  return when == format::Hook::When::PreApply || when == format::Hook::When::PreRevert;
}

LiveAddr context_in(LiveRange mapping) {
  return mapping.end - sizeof(Context);
}

uint64_t demand(int64_t result, const char* what) {
  if (failed(result)) {
    throw system_error(fmt::format("{} in the process", what), "the stack of its hooks",
                       static_cast<int>(-result));
  }
  return static_cast<uint64_t>(result);
}

// Guard page and stack. Without scratch memory the mapping has to carry its own name first.
LiveRange map_stack(proc::Borrowed& thread, const proc::Process& process, const std::string& name) {
  constexpr uint64_t kNobody = ~uint64_t{0};
  uint64_t at = 0;
  std::optional<LiveAddr> text = thread.scratch();
  if (!text) {
    at = demand(thread.call(SYS_mmap, 0, kMapped, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, kNobody, 0),
                "mmap");
    text = LiveAddr(at);
  }
  int64_t fd = -1;
  try {
    Bytes bytes = copy(as_bytes(name));
    bytes.push_back(std::byte{0});
    process.memory().write(*text, bytes);
    fd = static_cast<int64_t>(
        demand(thread.call(SYS_memfd_create, text->value, MFD_CLOEXEC), "memfd_create"));
    const auto file = static_cast<uint64_t>(fd);
    demand(thread.call(SYS_ftruncate, file, kMapped), "ftruncate");
    at = demand(
        thread.call(SYS_mmap, at, kMapped, PROT_READ | PROT_WRITE,
                    static_cast<uint64_t>(MAP_PRIVATE | MAP_NORESERVE | (at != 0 ? MAP_FIXED : 0)),
                    file, 0),
        "mmap");
    demand(thread.call(SYS_mprotect, at, kPageSize, PROT_NONE), "mprotect");
  } catch (...) {
    if (fd >= 0) {
      thread.call(SYS_close, static_cast<uint64_t>(fd));
    }
    if (at != 0) {
      thread.call(SYS_munmap, at, kMapped);
    }
    throw;
  }
  thread.call(SYS_close, static_cast<uint64_t>(fd));
  return {LiveAddr(at), LiveAddr(at + kMapped)};
}

Context make_context(const std::string& patch_id, const RegistryHook& hook) {
  Context context{};
  context.version = 1;
  context.when = static_cast<int>(hook.when);
  context.others = static_cast<int>(hook.others);
  patch_id.copy(context.patch, sizeof context.patch - 1);
  return context;
}

}  // namespace

bool is_hook_stack_name(std::string_view name) {
  const auto colon = name.rfind("memfd:");
  if (colon == std::string_view::npos) {
    return false;
  }
  name.remove_prefix(colon + 6);
  return name.starts_with(kPrefix) && name.ends_with(kSuffix);
}

void check_hooks(const proc::Process& process, const std::string& patch_id, Report& report) {
  for (pid_t tid : process.threads()) {
    const auto status = proc::read_task_status(process.pid(), tid);
    if (status && status->seccomp != 0) {
      report.refuse("hook-impossible", patch_id,
                    fmt::format("thread {} has a seccomp filter", tid));
      return;
    }
  }
}

Hooks::Hooks(const proc::Process& process, std::string patch_id,
             const std::vector<const Registry*>& parts, const Options& options)
    : process_(process), patch_id_(std::move(patch_id)), timeout_(options.hook_timeout) {
  for (const Registry* part : parts) {
    for (const RegistryHook& hook : part->hooks) {
      hooks_.push_back({hook, part->hook_return, part->hook_asked});
    }
  }
}

Hooks::~Hooks() {
  Outcome ignored;
  remove_stack(ignored);
}

bool Hooks::has(When when) const {
  return std::any_of(hooks_.begin(), hooks_.end(),
                     [&](const Known& k) { return k.hook.when == when; });
}

bool Hooks::has_stopped(std::initializer_list<When> whens) const {
  return std::any_of(hooks_.begin(), hooks_.end(), [&](const Known& k) {
    return k.hook.others == Others::Stopped &&
           std::find(whens.begin(), whens.end(), k.hook.when) != whens.end();
  });
}

void Hooks::prepare(std::initializer_list<When> whens) {
  if (mapping_ || std::none_of(whens.begin(), whens.end(), [&](When w) { return has(w); })) {
    return;
  }
  {
    proc::Borrowed thread = proc::Borrowed::demand(process_, proc::Borrowed::Use::Function);
    if (std::string obstacle = thread.obstacle(); !obstacle.empty()) {
      throw Refused(
          {{"hook-impossible", patch_id_, fmt::format("thread {}: {}", thread.tid(), obstacle)}});
    }
    mapping_ = map_stack(thread, process_, fmt::format("{}{}{}", kPrefix, patch_id_, kSuffix));
  }
  fault_point("hook.mapped");
}

proc::FunctionCall Hooks::make_call(const Known& known) const {
  const RegistryHook& hook = known.hook;
  const Context context = make_context(patch_id_, hook);
  const LiveAddr at = context_in(*mapping_);
  process_.memory().write(at, std::as_bytes(std::span(&context, 1)));
  proc::FunctionCall call;
  call.function = hook.function;
  call.argument = at;
  call.stack = {mapping_->start + kPageSize, at};
  call.returns_to = known.returns_to;
  call.asked = known.asked;
  call.patience =
      timeout_.value_or(hook.others == Others::Stopped ? kStoppedTimeout : kRunningTimeout);
  return call;
}

template <class Call>
void Hooks::run_all(When when, Others others, const Call& call) {
  for (const Known& known : hooks_) {
    if (known.hook.when == when && known.hook.others == others) {
      QP_ASSERT(mapping_);
      if (stuck_) {
        throw Error("unresponsive", "can't run the hook", known.hook.name,
                    "one before it has not ended and is on the stack of all", ExitCode::Busy);
      }
      const proc::FunctionCall request = make_call(known);
      ran_ = true;
      note_end(known.hook, call(request));
    }
  }
}

void Hooks::run(When when) {
  run_all(when, Others::Running, [&](const proc::FunctionCall& request) {
    proc::Borrowed thread = proc::Borrowed::demand(process_, proc::Borrowed::Use::Function);
    if (std::string obstacle = thread.obstacle(); !obstacle.empty()) {
      throw Refused(
          {{"hook-impossible", patch_id_, fmt::format("thread {}: {}", thread.tid(), obstacle)}});
    }
    return thread.run(request);
  });
  fault_point("hook.done");
}

void Hooks::run(When when, proc::Frozen& frozen) {
  run_all(when, Others::Stopped, [&](const proc::FunctionCall& request) {
    auto end = frozen.call(process_, request);
    if (!end) {
      throw proc::no_thread(process_);
    }
    return *end;
  });
}

void Hooks::run_after(When when, proc::Frozen* frozen) noexcept {
  try {
    if (frozen != nullptr) {
      run(when, *frozen);
    } else {
      run(when);
    }
  } catch (const Refused& r) {
    others_.insert(others_.end(), r.findings().begin(), r.findings().end());
  } catch (const std::exception& e) {
    others_.push_back({stuck_ ? "hook-timeout" : "hook-impossible", patch_id_,
                       fmt::format("{}: {}", format::name_of(when), e.what())});
  }
}

void Hooks::note_end(const RegistryHook& hook, const proc::CallEnd& end) {
  using Kind = proc::CallEnd::Kind;
  if (end.kind == Kind::Returned && end.value == 0) {
    return;
  }
  if (end.kind == Kind::Stuck) {
    stuck_ = true;
    throw Error("unresponsive", "can't stop the hook", hook.name,
                "it is in an uninterruptible system call", ExitCode::Busy);
  }
  if (end.kind == Kind::Gone) {
    // The process's end is told by its parts; soon all know of it.
    const auto deadline = std::chrono::steady_clock::now() + kEndPatience;
    while (process_.alive() && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::yield();
    }
    throw Error("system", "running the hook", hook.name, "the thread died");
  }
  if (end.kind != Kind::Returned) {
    restore_errno();
  }
  Context context{};
  process_.memory().read_some(context_in(*mapping_),
                              std::as_writable_bytes(std::span(&context, 1)));
  const std::string_view message(context.message, sizeof context.message);
  failures_.push_back({hook, end, std::string(message.substr(0, message.find('\0')))});
  if (can_refuse(hook.when)) {
    throw HookFailed();
  }
}

// The context lies where the hook could write to, so it names no place that only we could write to.
void Hooks::restore_errno() const {
  Context context{};
  if (!process_.memory().try_read(context_in(*mapping_),
                                  std::as_writable_bytes(std::span(&context, 1))) ||
      context.errno_at == nullptr) {
    return;
  }
  const LiveAddr at(reinterpret_cast<uint64_t>(context.errno_at));
  for (const proc::Mapping& m : process_.mappings()) {
    if (m.writable && !m.executable && m.range.contains(at) && m.range.contains(at + 3)) {
      process_.memory().write(at, std::as_bytes(std::span(&context.saved_errno, 1)));
    }
  }
}

Refusal Hooks::describe_failure(const Failure& failure) const {
  using Kind = proc::CallEnd::Kind;
  const proc::CallEnd& end = failure.end;
  const char* when = format::name_of(failure.hook.when);
  const std::string message =
      failure.message.empty() ? "" : fmt::format(": {}", proc::printable(failure.message));
  if (end.kind == Kind::Returned) {
    return {"hook-refused", failure.hook.name,
            fmt::format("{} returned {}{}", when, end.value, message)};
  }
  const std::string where =
      describe(process_, {{.at = end.at, .frames = {end.at}}}, process_.modules(), {})
          .front()
          .frames.front();
  switch (end.kind) {
    case Kind::Crashed: {
      const char* signal = ::sigabbrev_np(end.signal);
      return {"hook-crashed", failure.hook.name,
              fmt::format("{} got SIG{}{} at {}{}", when, signal != nullptr ? signal : "?",
                          end.fault ? fmt::format(" (address {:#x})", end.fault->value) : "", where,
                          message)};
    }
    case Kind::Forbidden:
      return {"hook-crashed", failure.hook.name,
              fmt::format("{} called {}, at {}{}", when, end.call, where, message)};
    default:
      return {"hook-timeout", failure.hook.name,
              fmt::format("{} with the other threads {} was at {}{}", when,
                          format::name_of(failure.hook.others), where, message)};
  }
}

std::vector<Refusal> Hooks::findings() const {
  std::vector<Refusal> out;
  for (const Failure& failure : failures_) {
    out.push_back(describe_failure(failure));
  }
  out.insert(out.end(), others_.begin(), others_.end());
  return out;
}

void Hooks::remove_stack(Outcome& outcome) {
  if (!mapping_ || stuck_) {
    return;
  }
  std::string why = "no thread could be borrowed";
  try {
    if (auto thread = proc::Borrowed::take(process_)) {
      const int64_t result = thread->call(SYS_munmap, mapping_->start.value, mapping_->size());
      why = failed(result) ? std::strerror(static_cast<int>(-result)) : "";
    }
  } catch (const std::exception& e) {
    why = e.what();
  }
  if (!why.empty() && process_.alive()) {
    outcome.notes.push_back(
        fmt::format("the stack of its hooks stays mapped ({}); `qpatch recover` "
                    "takes it away",
                    why));
  }
  mapping_.reset();
}

std::optional<bool> remove_left_stacks(const proc::Process& process) {
  std::vector<LiveRange> stacks;
  for (const proc::Mapping& m : process.mappings()) {
    if (is_hook_stack_name(m.name)) {
      stacks.push_back(m.range);
    }
  }
  if (stacks.empty()) {
    return std::nullopt;
  }
  // Threads only ever leave such a stack: whoever puts one there holds the lock that we have.
  const size_t all = stacks.size();
  proc::Frozen frozen = proc::Frozen::freeze(process);
  for (const proc::StoppedThread& thread : frozen.threads()) {
    std::erase_if(stacks, [&](LiveRange r) {
      return !thread.kernel_only && r.contains(LiveAddr(thread.registers.rsp));
    });
  }
  frozen.thaw();
  if (frozen.gone()) {
    return true;
  }
  const bool idle = stacks.size() == all;
  if (!idle) {  // guard pages stay with their stacks
    return false;
  }
  proc::Borrowed thread = proc::Borrowed::demand(process);
  for (LiveRange r : stacks) {
    demand(thread.call(SYS_munmap, r.start.value, r.size()), "munmap");
  }
  return true;
}

}  // namespace qp::apply
