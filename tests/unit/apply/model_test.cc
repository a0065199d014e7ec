// A model of the transaction, explored as a whole: every step of apply, revert and recover, with two
// functions and two threads, and at every step: qpatch dies, a write fails, a thread enters, leaves or
// is where it is, the library that is patched is unloaded and loaded again. The registry's states are the code's (State), and what recover does is the code's
// decision (what_remains()); the steps are those of commit.cc, undo.cc and recover.cc, one write each.
//
// What the model can't show is that a step does what it says; tests/fault lets real processes take
// each of them.

#include "apply/recover.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <tuple>
#include <vector>

#include "explorer.h"

namespace qp::apply {
namespace {

constexpr int kFunctions = 2, kThreads = 2;

// Where a thread is: outside, or in the old or the new code of a function.
enum Place : uint8_t { kOutside, kOld0, kOld1, kNew0, kNew1 };
enum class Command : uint8_t { None, Apply, Revert, Recover };

struct World {
  // The process.
  bool mapped = false, recorded = false;  // the image; its registry's header
  State state = State::Staged;
  std::array<bool, kFunctions> detour{};
  std::array<uint8_t, kThreads> threads{};
  bool loaded = true;  // the target, if it is a library
  // qpatch.
  Command running = Command::None;
  uint8_t step = 0;
  bool frozen = false;
  bool failed = false;           // a write was refused: on the way back
  State before = State::Staged;  // what revert or recover found
  std::array<bool, kFunctions> had{};
  bool died = false;  // a run was killed, and nothing was recovered since

  auto key() const {
    return std::tuple(mapped, recorded, state, detour, threads, loaded, running, step, frozen,
                      failed, before, had, died);
  }
  bool operator<(const World& o) const { return key() < o.key(); }
  bool all(bool patched) const {
    return std::all_of(detour.begin(), detour.end(), [&](bool d) { return d == patched; });
  }
  bool anybody_in(uint8_t first, uint8_t last) const {
    return std::any_of(threads.begin(), threads.end(),
                       [&](uint8_t t) { return t >= first && t <= last; });
  }
  Standing standing() const {
    const bool unloaded = state == State::Applied && (!loaded || all(false));
    return {recorded ? Standing::Record::Readable : Standing::Record::Blank, state, unloaded};
  }
  // What the next command that changes something has to undo first.
  bool interrupted() const { return mapped && what_remains(standing()) == Remains::Undo; }
};

void end(World& w) {
  w.running = Command::None;
  w.step = 0;
  w.frozen = w.failed = false;
  w.before = State::Staged;
  w.had = {};
}

// The next step of apply: what is written when. A refused write, or a busy thread, leads back.
void step_apply(World& w, bool refused) {
  switch (w.step) {
    case 0:
      w.mapped = true;
      break;
    case 1:
      w.recorded = true;
      w.state = State::Staged;
      break;
    case 2:
      w.frozen = true;
      break;
    case 3:
      if (w.anybody_in(kOld0, kOld1)) {
        w.frozen = false;
        w.mapped = w.recorded = false;  // ~Staged
        return end(w);
      }
      break;
    case 4:
      w.state = State::Committing;
      break;
    case 5:
    case 6:
      if ((refused || !w.loaded) && !w.failed) {  // those that are written are taken back
        w.failed = true;
        w.step = static_cast<uint8_t>(w.step + 5);
        return;
      }
      w.detour[w.step - 5] = true;
      break;
    case 7:
      w.state = State::Applied;
      break;
    case 8:
      return end(w);
    case 10:  // the way back: from where it was, to the first
    case 11:
      w.detour[w.step - 10] = false;
      if (w.step == 11) {
        w.step = 10;
        return;
      }
      w.step = 12;
      return;
    case 12:
      w.state = State::Staged;
      w.step = 13;
      return;
    case 13:
      w.frozen = false;
      w.step = 14;
      return;
    case 14:
      w.mapped = w.recorded = false;
      return end(w);
    default:
      FAIL() << "step " << int{w.step};
  }
  ++w.step;
}

// Revert and recover: the same steps, over the detours that are there.
void step_back(World& w, bool refused) {
  switch (w.step) {
    case 0:
      w.frozen = true;
      break;
    case 1:
      if (w.anybody_in(kNew0, kNew1)) {
        return end(w);
      }
      break;
    case 2:
      w.before = w.state;
      w.had = w.detour;
      if (w.recorded) {
        w.state = State::Reverting;
      }
      break;
    case 3:
    case 4:
      if (refused) {  // what was taken out comes back
        w.detour = w.had;
        w.state = w.before;
        return end(w);
      }
      w.detour[w.step - 3] = false;
      break;
    case 5:
      if (w.recorded) {
        w.state = State::Reverted;
      }
      break;
    case 6:
      w.frozen = false;
      break;
    case 7:
      w.mapped = w.recorded = false;
      return end(w);
    default:
      FAIL() << "step " << int{w.step};
  }
  ++w.step;
}

std::vector<World> successors(const World& w) {
  std::vector<World> out;
  const auto add = [&](auto change) {
    World next = w;
    change(next);
    out.push_back(next);
  };
  if (w.running == Command::None) {
    const bool applied = w.recorded && w.state == State::Applied;
    if (w.interrupted()) {  // whichever command comes
      add([](World& n) { n.running = Command::Recover; });
    } else if (applied) {
      add([](World& n) { n.running = Command::Revert; });
    } else if (w.mapped) {  // reverted, and killed before it was unmapped: recover takes it away
      add([](World& n) {
        n.running = Command::Recover;
        n.step = 7;
      });
    } else if (w.loaded) {
      add([](World& n) {
        n.running = Command::Apply;
        n.died = false;
      });
    }
  } else {
    for (const bool refused : {false, true}) {
      add([&](World& n) {
        n.running == Command::Apply ? step_apply(n, refused) : step_back(n, refused);
      });
    }
    add([](World& n) {  // kill -9: the kernel lets the threads run on
      end(n);
      n.died = true;
    });
  }
  if (!w.frozen && !w.anybody_in(kOld0, kOld1)) {  // loaded again it is as its file
    add([](World& n) {
      n.loaded = !n.loaded;
      n.detour = {};
    });
  }
  for (int t = 0; !w.frozen && t < kThreads; ++t) {
    if (w.threads[t] != kOutside) {
      add([&](World& n) { n.threads[t] = kOutside; });
      continue;
    }
    for (int f = 0; w.loaded && f < kFunctions; ++f) {
      add([&](World& n) {
        n.threads[t] = static_cast<uint8_t>((n.detour[f] ? kNew0 : kOld0) + f);
      });
    }
  }
  return out;
}

// All worlds that can come about, each with those that can follow.
const std::map<World, std::vector<World>>& worlds() {
  static const std::map<World, std::vector<World>> all = explore(World{}, successors);
  return all;
}

// Claim: threads never run while some functions are switched and others are not, unless qpatch was
// killed in the midst; then the registry says so, so that the next command can undo it.
TEST(Model, RunningThreadsSeeOldOrNew) {
  EXPECT_GT(worlds().size(), 500U);
  for (const auto& [w, next] : worlds()) {
    if (!w.frozen && !w.all(false) && !w.all(true)) {
      EXPECT_TRUE(w.died && w.interrupted()) << state_name(w.state);
    }
  }
}

// Claim: no thread is in, and no detour leads to, an image that is not mapped.
TEST(Model, NothingUnmappedIsReached) {
  for (const auto& [w, next] : worlds()) {
    if (!w.mapped) {
      EXPECT_TRUE(w.all(false));
      EXPECT_FALSE(w.anybody_in(kNew0, kNew1));
    }
  }
}

// Claim: where no command runs, the registry tells the truth: applied is all new, unless its library was
// unloaded since, which can be seen; reverted, staged and none at all are all old.
TEST(Model, TheRegistryTellsTheTruth) {
  for (const auto& [w, next] : worlds()) {
    if (w.running != Command::None ||
        (w.recorded && (w.state == State::Committing || w.state == State::Reverting))) {
      continue;
    }
    const bool applied = w.recorded && w.state == State::Applied && !w.standing().unloaded;
    EXPECT_TRUE(w.all(applied)) << state_name(w.state);
  }
}

// Claim: from every world a command that is let work, while threads leave, leads to all old with
// nothing left, or to all new; in particular from where a run was killed.
TEST(Model, EveryWayEndsOldOrNew) {
  // Backwards from the good ends, over steps that succeed and threads that leave.
  std::set<World> good;
  for (bool grew = true; grew;) {
    grew = false;
    for (const auto& [w, next] : worlds()) {
      if (good.count(w) != 0) {
        continue;
      }
      const bool clean = !w.mapped && w.all(false);
      const bool patched = w.recorded && w.state == State::Applied && w.all(true);
      const bool done = w.running == Command::None && (clean || patched);
      if (done || std::any_of(next.begin(), next.end(), [&](const World& n) {
            return (w.running == Command::None || !n.died || w.died) && good.count(n) != 0;
          })) {
        good.insert(w);
        grew = true;
      }
    }
  }
  EXPECT_EQ(good.size(), worlds().size());
}

// Claim: what is half done is undone whatever the registry says of it; only a patch that is applied, to
// code that is still there, stays.
TEST(Model, WhatRemainsOfEachState) {
  using Record = Standing::Record;
  for (const State state : {State::Staged, State::Committing, State::Applied, State::Reverting,
                            State::Reverted, State::Yielding}) {
    for (const bool unloaded : {false, true}) {
      const Remains expected = state == State::Reverted               ? Remains::Kept
                               : state == State::Applied && !unloaded ? Remains::None
                                                                      : Remains::Undo;
      EXPECT_EQ(what_remains({Record::Readable, state, unloaded}), expected);
      EXPECT_EQ(what_remains({Record::Blank, state, unloaded}), Remains::Undo);
      EXPECT_EQ(what_remains({Record::Unreadable, state, unloaded}), Remains::Undo);
    }
  }
}

}  // namespace
}  // namespace qp::apply
