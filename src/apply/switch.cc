// Freezing is cheap and waiting is not: a process is never stopped while we wait for a thread to
// leave, because what it waits for may be one of the threads that we would have stopped (a peer
// freezes for seconds and fails that way). Between two looks the process runs for at least
// kShareOfStops times as long as the look took, so that a hot function costs it little however long
// the deadline is.
//
// Suspended contexts are looked for right before each stop. Who is found suspended is waited for like
// a thread.
//
// A thread that sleeps in a call which an interruption would cut short is waited for too, but not for
// ever: somebody's blocked write may last as long as its reader likes.
//
// The unwind tables are loaded between the first look that needs them and the second, and again
// when a trace could not be finished, since a library may have been loaded meanwhile.

#include "apply/switch.h"

#include <algorithm>
#include <optional>
#include <thread>

#include <fmt/format.h>

#include "apply/alone.h"
#include "apply/registries.h"
#include "base/fault.h"
#include "proc/borrow.h"
#include "proc/partial_call.h"
#include "proc/peers.h"

namespace qp::apply {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kFirstWait = std::chrono::milliseconds(1);
constexpr auto kLongestWait = std::chrono::milliseconds(50);
constexpr int kShareOfStops = 20;
constexpr auto kForPartialCalls = std::chrono::milliseconds(200);

// The same thread in the same function counts once, however often it was seen.
void record(std::vector<BusyThread>& all, std::vector<BusyThread> now) {
  for (BusyThread& b : now) {
    auto it = std::find_if(all.begin(), all.end(), [&](const BusyThread& other) {
      return other.tid == b.tid && other.function == b.function;
    });
    if (it != all.end()) {
      b.seen = it->seen + 1;
      *it = std::move(b);
    } else {
      all.push_back(std::move(b));
    }
  }
}

// A thread that does not stop (uninterruptible sleep, or no processor to be had) may do so later.
// Nullopt: try again.
std::optional<proc::Frozen> try_freeze(const proc::Process& process, Outcome& outcome,
                                       Clock::time_point deadline) {
  try {
    return proc::Frozen::freeze(process);
  } catch (const Error& e) {
    outcome.attempts += 1;
    if (e.code() != "unresponsive" || Clock::now() >= deadline) {
      throw;
    }
    return std::nullopt;
  }
}

void check_expected(const proc::Memory& memory, const std::vector<CodeWrite>& writes) {
  Report report;
  for (const CodeWrite& w : writes) {
    Bytes have(w.expected.size());
    if (!memory.try_read(w.at, have) || have != w.expected) {
      report.refuse(
          "text-modified", w.function,
          fmt::format("{:#x} holds {}, expected {}", w.at.value, hex(have), hex(w.expected)));
    }
  }
  report.checkpoint();
}

Switched try_until_deadline(const proc::Process& process, const Closed& closed,
                            const Options& options, Outcome& outcome,
                            const std::function<void(proc::Frozen&)>& act) {
  ContextScan* contexts = closed.contexts;
  const bool look_for_contexts = contexts != nullptr && contexts->is_wanted();
  auto deadline = Clock::now() + options.timeout;
  const auto patience = std::min(deadline, Clock::now() + kForPartialCalls);
  Clock::duration wait = kFirstWait;
  StackCheck check(process, closed.ranges,
                   contexts != nullptr ? contexts->ranges() : std::vector<LiveRange>());
  proc::PeerSearch peers(process.pid());
  for (;;) {
    std::optional<SuspendedContext> context;
    if (look_for_contexts && (context = contexts->look())) {
      outcome.attempts += 1;
      record(outcome.busy, describe(*context, process, process.modules(), closed.names));
      if (Clock::now() >= deadline) {
        return process.alive() ? Switched::Busy : Switched::Gone;
      }
      std::this_thread::sleep_until(std::min(Clock::now() + kLongestWait, deadline));
      continue;
    }
    fault_point("switch.looked");
    if (auto peer = peers.find()) {
      outcome.attempts += 1;
      if (Clock::now() >= deadline) {
        refuse_peer(process.pid(), *peer);
      }
      std::this_thread::sleep_for(kFirstWait);
      continue;
    }
    check.prepare();
    proc::await_whole_calls(process, patience);
    std::optional<proc::Frozen> stopped = try_freeze(process, outcome, deadline);
    if (!stopped) {
      std::this_thread::sleep_for(kLongestWait);
      continue;
    }
    proc::Frozen& frozen = *stopped;
    // From here on no thread of the process runs.
    if (frozen.gone()) {
      return Switched::Gone;
    }
    fault_point("switch.frozen");
    if (auto peer = peers.find()) {  // made since; it runs on
      frozen.thaw();
      outcome.attempts += 1;
      if (Clock::now() >= deadline) {
        refuse_peer(process.pid(), *peer);
      }
      continue;
    }
    StackCheck::Answer answer = check.look(frozen);
    if (answer == StackCheck::Answer::Clear && closed.lends_thread && !frozen.can_call(process)) {
      frozen.thaw();
      outcome.attempts += 1;
      if (Clock::now() >= deadline) {
        throw proc::no_thread(process);
      }
      std::this_thread::sleep_for(kFirstWait);
      continue;
    }
    if (answer == StackCheck::Answer::Clear) {
      act(frozen);
    }
    frozen.thaw();
    outcome.longest_pause = std::max(outcome.longest_pause, frozen.pause());
    if (answer == StackCheck::Answer::Clear) {
      outcome.pause = frozen.pause();
      outcome.attempts += 1;
      outcome.busy.clear();
      return Switched::Done;
    }
    if (answer == StackCheck::Answer::NeedsUnwind) {
      check.prepare_unwinding();
      check.rehearse();
      continue;
    }
    outcome.attempts += 1;
    std::vector<proc::Module> modules = process.modules();
    record(outcome.busy, describe(process, check.inside(), modules, closed.names));
    if (Clock::now() >= deadline) {
      return process.alive() ? Switched::Busy : Switched::Gone;
    }
    wait = std::clamp<Clock::duration>(
        wait * 2, std::min<Clock::duration>(frozen.pause() * kShareOfStops, kLongestWait),
        kLongestWait);
    std::this_thread::sleep_until(std::min(Clock::now() + wait, deadline));
    check.prepare_unwinding();
    check.rehearse();
  }
}

}  // namespace

// Once `act` is done the process is changed, and nothing that fails on the way out of the freeze makes
// that undone. To let it out as a failure would have the caller unmap what the code leads to by now.
Switched switch_over(const proc::Process& process, const Closed& closed, const Options& options,
                     Outcome& outcome, const std::function<void(proc::Frozen&)>& act) {
  bool acted = false;
  try {
    return try_until_deadline(process, closed, options, outcome, [&](proc::Frozen& frozen) {
      act(frozen);
      acted = true;
      fault_point("switch.acted");
    });
  } catch (const std::exception& e) {
    if (!acted) {
      throw;
    }
    outcome.busy.clear();
    outcome.notes.push_back(
        fmt::format("the switch is made; what came after it failed: {}", e.what()));
    return Switched::Done;
  }
}

bool is_cut(LiveAddr at, ByteView have, ByteView before, ByteView after) {
  const uint64_t first = kPageSize - at.value % kPageSize;
  if (have.size() != before.size() || have.size() != after.size() || first >= have.size()) {
    return false;
  }
  const auto is = [&](ByteView front, ByteView back) {
    return std::equal(have.begin(), have.begin() + static_cast<ptrdiff_t>(first), front.begin()) &&
           std::equal(have.begin() + static_cast<ptrdiff_t>(first), have.end(),
                      back.begin() + static_cast<ptrdiff_t>(first));
  };
  return is(before, after) || is(after, before);
}

RegistryChange committing(LiveAddr at) {
  return {at, State::Staged, State::Committing, State::Applied};
}
RegistryChange reverting(LiveAddr at, State before) {
  return {at, before, State::Reverting, State::Reverted};
}
RegistryChange yielding(LiveAddr at) {
  return {at, State::Applied, State::Yielding, State::Reverted};
}
RegistryChange returning(LiveAddr at, State before) {
  return {at, before, State::Yielding, State::Applied};
}

void change_together(const proc::Memory& memory, const std::vector<RegistryChange>& registries,
                     const std::vector<CodeWrite>& writes, const Steps& steps) {
  size_t begun = 0, written = 0, finished = 0;
  try {
    for (const RegistryChange& registry : registries) {
      ++begun;
      write_state(memory, registry.at, registry.during);
      fault_point(steps.begun);
    }
    check_expected(memory, writes);
    for (const CodeWrite& w : writes) {
      ++written;
      memory.write(w.at, w.wanted);
      fault_point(steps.written);
      Bytes have(w.wanted.size());
      if (!memory.try_read(w.at, have) || have != w.wanted) {
        throw Error("system", "reading back the entry of", w.function,
                    "the process does not have what was written");
      }
    }
    for (const RegistryChange& registry : registries) {
      fault_point(steps.finish);
      ++finished;
      write_state(memory, registry.at, registry.after);
    }
  } catch (...) {
    // Backwards, and so that whoever dies here leaves a registry that says that something is under way
    // as long as it is: `recover` goes by that.
    while (finished-- > 0) {
      write_state(memory, registries[finished].at, registries[finished].during);
    }
    while (written-- > 0) {  // backwards, as an island has to be there longer than the jump to it
      memory.write(writes[written].at, writes[written].expected);
    }
    while (begun-- > 0) {
      write_state(memory, registries[begun].at, registries[begun].before);
    }
    throw;
  }
}

}  // namespace qp::apply
