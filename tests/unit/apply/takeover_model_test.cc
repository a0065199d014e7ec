// A model of how one patch takes the place of another, explored as a whole: the writes of commit.cc, of
// the way back from a refused write (switch.cc), of recover.cc, one at a time, and at each of them qpatch
// dies, a write is refused, or all goes well. Which registry is written when is read from the code's own
// lists (committing(), yielding(), …), and what recover does is the code's decision (way_on(),
// is_half_done()).

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <set>
#include <tuple>
#include <vector>

#include "apply/recover.h"
#include "apply/switch.h"
#include "apply/takeover.h"
#include "explorer.h"

namespace qp::apply {
namespace {

constexpr size_t kPlaces = 2;
enum Patch : size_t { kOld, kNew };

// One write: of a registry, or of a place of code.
struct Step {
  std::optional<Patch> registry;
  State state = State::Applied;
  size_t place = 0;
  Patch code = kOld;
};

struct World {
  std::array<State, 2> state{State::Applied, State::Staged};
  std::array<Patch, kPlaces> code{kOld, kOld};
  bool running = false;  // a command; what it still has to write:
  std::vector<Step> left;
  std::vector<Step> undo;      // and what takes back what it has written, the last first
  std::vector<Step> finished;  // and before that: what is under way again
  bool undoing = false;

  auto key() const {
    std::vector<std::tuple<int, int, size_t, int>> steps;
    for (const auto* list : {&left, &undo, &finished}) {
      for (const Step& s : *list) {
        steps.emplace_back(s.registry ? static_cast<int>(*s.registry) : -1,
                           static_cast<int>(s.state), s.place, static_cast<int>(s.code));
      }
      steps.emplace_back(-2, 0, 0, 0);
    }
    return std::tuple(state, code, running, undoing, steps);
  }
  bool operator<(const World& o) const { return key() < o.key(); }
  bool all(Patch patch) const { return code[0] == patch && code[1] == patch; }
  bool is(Patch patch) const {
    return all(patch) && state[patch] == State::Applied && !is_half_done(state[1 - patch]) &&
           state[1 - patch] != State::Applied;
  }
  bool says_so() const { return is_half_done(state[kOld]) || is_half_done(state[kNew]); }
};

// What change_together() writes: `during` of all, code, `after` of all.
std::vector<Step> steps(const std::vector<std::pair<Patch, RegistryChange>>& changes, Patch code) {
  std::vector<Step> out;
  for (const auto& [patch, change] : changes) {
    out.push_back({patch, change.during});
  }
  for (size_t place = 0; place < kPlaces; ++place) {
    out.push_back({std::nullopt, State::Applied, place, code});
  }
  for (const auto& [patch, change] : changes) {
    out.push_back({patch, change.after});
  }
  return out;
}

const LiveAddr kAnywhere(0x1000);

void start_takeover(World& w) {
  w.running = true;
  w.left = steps({{kNew, committing(kAnywhere)}, {kOld, yielding(kAnywhere)}}, kNew);
}

// A staged patch alone is only unmapped, and the same is true of one whose predecessor is applied.
void start_recover(World& w) {
  w.running = true;
  if (w.state[kOld] != State::Yielding) {
    w.left = steps({{kNew, reverting(kAnywhere, w.state[kNew])}}, kOld);
    return;
  }
  if (way_on(is_half_done(w.state[kNew]), w.all(kNew)) == Way::Forth) {
    w.left = {{kOld, State::Reverted}};
    return;
  }
  w.left = steps(
      {{kOld, returning(kAnywhere, w.state[kOld])}, {kNew, reverting(kAnywhere, w.state[kNew])}},
      kOld);
}

void end(World& w) {
  w.running = w.undoing = false;
  w.left.clear();
  w.undo.clear();
  w.finished.clear();
}

void take_step(World& w) {
  const Step step = w.left.front();
  w.left.erase(w.left.begin());
  Step back = step;
  if (step.registry) {
    back.state = w.state[*step.registry];
    w.state[*step.registry] = step.state;
  } else {
    back.code = w.code[step.place];
    w.code[step.place] = step.code;
  }
  // Code goes back before the registries, each kind backwards; of a registry its first state counts.
  // What said that it is done says before that that it is not.
  const auto same = [&](const Step& s) { return s.registry && s.registry == step.registry; };
  if (!w.undoing && std::any_of(w.undo.begin(), w.undo.end(), same)) {
    w.finished.insert(w.finished.begin(), back);
  } else if (!w.undoing) {
    auto at = w.undo.begin();
    while (step.registry && at != w.undo.end() && !at->registry) {
      ++at;
    }
    w.undo.insert(at, back);
  }
  if (w.left.empty()) {
    end(w);
  }
}

std::vector<World> successors(const World& w) {
  std::vector<World> out;
  if (!w.running) {
    World next = w;
    if (w.says_so() && !(w.is(kOld) && w.state[kNew] == State::Staged)) {
      start_recover(next);
    } else if (w.is(kOld) || w.state == World().state) {
      next.state[kNew] = State::Staged;
      start_takeover(next);
    } else {
      return out;
    }
    return {next};
  }
  World next = w;
  take_step(next);
  out.push_back(next);
  World dead = w;
  end(dead);
  out.push_back(dead);
  if (!w.undoing && !w.undo.empty()) {  // a write is refused
    World refused = w;
    refused.undoing = true;
    refused.left = std::move(refused.finished);
    refused.left.insert(refused.left.end(), refused.undo.begin(), refused.undo.end());
    refused.finished.clear();
    refused.undo.clear();
    out.push_back(refused);
  }
  return out;
}

const std::map<World, std::vector<World>>& worlds() {
  static const std::map<World, std::vector<World>> all = explore(World{}, successors);
  return all;
}

// Claim: where no command runs, the program is the old patch's or the new one's and one registry says so
// alone, or it can be seen that something is to be undone.
TEST(TakeoverModel, OneOfThemOrItIsSeen) {
  EXPECT_GT(worlds().size(), 50U);
  for (const auto& [w, next] : worlds()) {
    if (!w.running) {
      EXPECT_TRUE(w.is(kOld) || w.is(kNew) || w.says_so())
          << state_name(w.state[kOld]) << ", " << state_name(w.state[kNew]);
    }
  }
}

// Claim: recover that is let work leads from every world to the old patch or to the new one; to the new one
// only if all code was the new one's.
TEST(TakeoverModel, RecoverEndsWithOneOfThem) {
  for (const auto& [start, ignored] : worlds()) {
    if (start.running || !start.says_so()) {
      continue;
    }
    World w = start;
    start_recover(w);
    while (w.running) {
      take_step(w);
    }
    EXPECT_TRUE(w.is(kOld) || w.is(kNew))
        << state_name(w.state[kOld]) << ", " << state_name(w.state[kNew]);
    EXPECT_TRUE(w.is(kOld) || start.all(kNew));
  }
}

}  // namespace
}  // namespace qp::apply
