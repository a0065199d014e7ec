// A patch that takes the place of an earlier one in one step. The victim's first() and second() answer
// 11 and 22 as they were; the first patch makes first() count in two new variables, the second one
// changes both functions and goes on counting.

#include <fstream>

#include "harness/live_case.h"

namespace qp::live {
namespace {

class Superseded : public LiveCase {
 protected:
  void SetUp() override {
    LiveCase::SetUp();
    prepare();
    first_ = build_patch();
    second_ = build("second.patch", "second.qp", {"--supersedes", first_});
  }
  std::string build(const std::string& diff, const std::string& name,
                    const std::vector<std::string>& more) {
    return build_patch(dir().path() / diff, name, more);
  }
  std::string ask(const char* what) { return victim().ask(what); }
  std::string id_of(const std::string& patch) {
    must("apply", patch);
    const std::string id = only_listed().id;
    must("revert", id);
    return id;
  }
  CommandResult refused(const std::string& verb, const std::string& patch, const std::string& id,
                        const std::vector<std::string>& more = {}) {
    CommandResult result = on_victim(verb, patch, more);
    EXPECT_EQ(result.exit_code, 3) << result.both();
    EXPECT_TRUE(names(result.both(), id)) << result.both();
    return result;
  }

  std::string first_, second_;
};

// Claim: the new patch is in and the old one out; variables that both bring have one value, all along;
// after the revert the program is what it was, and nothing of either is left.
TEST_P(Superseded, takes_the_place_and_keeps_values) {
  ASSERT_FALSE(HasFailure());
  const Snapshot before = snapshot();
  EXPECT_EQ(ask("1"), "11");
  must("apply", first_);
  const std::string first_id = only_listed().id;
  EXPECT_EQ(ask("1"), "11012");
  EXPECT_EQ(ask("1"), "22012");
  EXPECT_EQ(ask("2"), "22");
  EXPECT_TRUE(names(must("check", second_).out, "in place of " + first_id));
  const CommandResult applied = must("apply", second_);
  EXPECT_TRUE(names(applied.out, "in place of " + first_id)) << applied.both();
  EXPECT_NE(only_listed().id, first_id);
  EXPECT_EQ(ask("1"), "33015");
  EXPECT_EQ(ask("2"), "34");
  EXPECT_EQ(ask("2"), "35");
  EXPECT_TRUE(names(must("apply", second_).both(), "already"));
  expect_untouched(before, must("revert", only_listed().id).both());
  EXPECT_EQ(ask("1"), "11");
  EXPECT_EQ(ask("2"), "22");
  // And anew: with no predecessor it is a patch like any other.
  must("apply", second_);
  EXPECT_EQ(ask("1"), "11015");
  expect_untouched(before, must("revert", only_listed().id).both());
  EXPECT_EQ(victim().finish(), 0);
}

// Refusal: superseded
// Claim: the old patch does not come back over the new one by itself, but if that is asked for, and
// again the values stay; to and fro, nothing piles up.
TEST_P(Superseded, goes_back_when_asked) {
  ASSERT_FALSE(HasFailure());
  const Snapshot before = snapshot();
  must("apply", first_);
  EXPECT_EQ(ask("1"), "11012");
  must("apply", second_);
  EXPECT_EQ(ask("1"), "22015");
  const Snapshot with_second = snapshot();
  refused("check", first_, "superseded");
  refused("apply", first_, "superseded");
  expect_untouched(with_second);
  std::string second_id = only_listed().id;
  must("apply", first_, {"--replace", second_id.substr(0, 5)});
  EXPECT_EQ(ask("1"), "33012");
  EXPECT_EQ(ask("2"), "22");
  must("apply", second_);
  EXPECT_EQ(ask("1"), "44015");
  EXPECT_EQ(left_behind(with_second, snapshot()), "");
  expect_untouched(before, must("revert", only_listed().id).both());
  EXPECT_EQ(ask("1"), "11");
}

// Claim: what only the old patch replaced gets its own code back.
TEST_P(Superseded, functions_of_the_old_patch_alone_are_restored) {
  ASSERT_FALSE(HasFailure());
  const Snapshot before = snapshot();
  const std::string only_second = build("only_second.patch", "only.qp", {"--supersedes", first_});
  must("apply", first_);
  EXPECT_EQ(ask("1"), "11012");
  must("apply", only_second);
  EXPECT_EQ(ask("1"), "11");
  EXPECT_EQ(ask("2"), "31");
  EXPECT_EQ(only_listed().functions, std::vector<std::string>{"second"});
  expect_untouched(before, must("revert", only_listed().id).both());
}

// Refusal: variable-changed
// Claim: a variable of another size or type is not taken for the same one: `build` says so if it has
// the old patch, and `apply` if it had only its id; the old patch stays as it is.
TEST_P(Superseded, another_variable_of_the_name_is_refused) {
  ASSERT_FALSE(HasFailure());
  const std::string id = id_of(first_);
  for (const char* diff : {"larger.patch", "other_type.patch"}) {
    SCOPED_TRACE(diff);
    std::vector<std::string> arguments =
        workshop().build_arguments(target(), dir().path() / "refused.qp");
    arguments[4] = dir().path() / diff;
    arguments.insert(arguments.end(), {"--supersedes", first_});
    const CommandResult built = dir().qpatch(arguments, workshop().source_tree());
    EXPECT_NE(built.exit_code, 0);
    EXPECT_TRUE(names(built.both(), "variable-changed")) << built.both();
    const std::string changed = build(diff, std::string(diff) + ".qp", {"--supersedes", id});
    must("apply", first_);
    EXPECT_EQ(ask("1"), "11012");
    const Snapshot with_first = snapshot();
    refused("apply", changed, "variable-changed");
    expect_untouched(with_first);
    EXPECT_EQ(ask("1"), "22012");
    must("revert", id);
  }
}

// Claim: a chain of twenty, each in place of the one before, counts on; in the end all is as it was.
TEST_P(Superseded, twenty_deep) {
  ASSERT_FALSE(HasFailure());
  const Snapshot before = snapshot();
  std::ifstream file(dir().path() / "fix.patch");
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  std::string previous = first_;
  must("apply", first_);
  EXPECT_EQ(ask("1"), "11012");
  for (int n = 2; n <= 20; ++n) {
    SCOPED_TRACE(n);
    std::string diff = text;
    const std::string line = "help(x) + 11";
    diff.replace(diff.find(line), line.size(), "help(x) + " + std::to_string(10 + n));
    const std::string name = "deep" + std::to_string(n);
    std::ofstream(dir().path() / (name + ".patch")) << diff;
    previous = build(name + ".patch", name + ".qp", {"--supersedes", previous});
    must("apply", previous);
    EXPECT_EQ(ask("1"), std::to_string(11000 * n + 11 + n));
    ASSERT_FALSE(HasFailure());
  }
  // The last one supersedes all before it, whichever a process has.
  must("revert", only_listed().id);
  must("apply", first_);
  EXPECT_EQ(ask("1"), "11012");
  must("apply", previous);
  EXPECT_EQ(ask("1"), "22031");
  expect_untouched(before, must("revert", "all").both());
  EXPECT_EQ(ask("1"), "11");
  EXPECT_TRUE(listed().empty());
}

class SupersededIslands : public Superseded {};

// Claim: the island of a short function serves it again, and one that is not needed any more goes, whoever
// comes next.
TEST_P(SupersededIslands, serve_again) {
  ASSERT_FALSE(HasFailure());
  const Snapshot before = snapshot();
  const std::string fewer = build("fewer.patch", "fewer.qp", {"--supersedes", second_});
  EXPECT_EQ(ask("x"), "0 3 5 9");
  for (int i = 0; i < 2; ++i) {
    must("apply", first_);
    EXPECT_EQ(ask("x"), "10 13 15 9");
    must("apply", second_);
    EXPECT_EQ(ask("x"), "20 23 25 9");
    must("apply", fewer);
    EXPECT_EQ(ask("x"), "30 3 5 9");
    must("apply", second_, {"--replace", only_listed().id});
    EXPECT_EQ(ask("x"), "20 23 25 9");
    expect_untouched(before, must("revert", only_listed().id).both());
    EXPECT_EQ(ask("x"), "0 3 5 9");
  }
}

INSTANTIATE_TEST_SUITE_P(Scenario, SupersededIslands,
                         testing::ValuesIn(scenario(QP_SCENARIOS, "superseded_islands")),
                         instance_name);

class SupersededThreads : public Superseded {};

// Claim: in threads that have the first patch's variable it keeps its value, in new ones it begins anew,
// and a variable that only the second patch has begins anew in all.
TEST_P(SupersededThreads, keep_their_values) {
  ASSERT_FALSE(HasFailure());
  const Snapshot before = snapshot();
  EXPECT_EQ(ask("m"), "11");
  must("apply", first_);
  EXPECT_EQ(ask("m"), "601");
  EXPECT_EQ(ask("m"), "701");
  EXPECT_EQ(ask("t"), "601");
  EXPECT_EQ(ask("n"), "601");
  must("apply", second_);
  EXPECT_EQ(ask("m"), "841");
  EXPECT_EQ(ask("t"), "741");
  EXPECT_EQ(ask("n"), "641");
  EXPECT_EQ(ask("m"), "951");
  must("apply", first_, {"--replace", only_listed().id});
  EXPECT_EQ(ask("m"), "1001");
  EXPECT_EQ(ask("t"), "801");
  EXPECT_EQ(ask("n"), "601");
  expect_untouched(before, must("revert", only_listed().id).both());
  EXPECT_EQ(ask("t"), "11");
  EXPECT_EQ(victim().finish(), 0);
}

// Claim: an image that a revert kept is not used again for the same patch where that has another content
// by now, because it takes variables over; where it has the same, it is.
TEST_P(SupersededThreads, kept_image_is_used_again_only_as_it_is) {
  ASSERT_FALSE(HasFailure());
  const auto images = [&] {
    const std::string maps = read_text("/proc/" + std::to_string(victim().pid()) + "/maps");
    size_t count = 0;
    for (size_t at = maps.find("r-xp"); at != std::string::npos; at = maps.find("r-xp", at + 1)) {
      count += maps.compare(maps.find('\n', at) - 4, 4, ".qpi") == 0 ? 1 : 0;
    }
    return count;
  };
  for (int i = 0; i < 2; ++i) {
    must("apply", second_);
    EXPECT_EQ(ask("m"), i == 0 ? "641" : "751");
    EXPECT_TRUE(names(must("revert", only_listed().id).both(), "kept"));
    EXPECT_EQ(images(), 1U);
  }
  must("apply", first_);
  EXPECT_EQ(ask("m"), "601");
  must("apply", second_);
  EXPECT_EQ(ask("m"), "741") << "the first patch's count goes on";
  EXPECT_EQ(images(), 3U);
  must("revert", "all");
  EXPECT_EQ(ask("m"), "11");
}

class SupersededBlocked : public Superseded {
 protected:
  std::string build_only_second() {
    return build("only_second.patch", "only.qp", {"--supersedes", first_});
  }
  void expect_busy(const std::string& patch, const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {"--timeout", "0ms"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const CommandResult result = on_victim("apply", patch, arguments);
    EXPECT_EQ(result.exit_code, 4) << result.both();
    EXPECT_TRUE(names(result.both(), "stay")) << result.both();
  }
  void SetUp() override {
    LiveCase::SetUp();
    prepare();
    first_ = build_patch();
  }
};

// Claim: a patch that replaces fewer functions waits for those who are in the new code of the others, and
// its predecessor, coming back, for those who are in their old code.
TEST_P(SupersededBlocked, by_a_thread_in_what_only_the_first_replaces) {
  ASSERT_FALSE(HasFailure());
  ask("enter");  // its threads leave a stack behind
  EXPECT_EQ(ask("leave"), "11");
  const Snapshot before = snapshot();
  const std::string only_second = build_only_second();
  must("apply", first_);
  ask("enter");
  expect_busy(only_second, {});
  EXPECT_EQ(ask("2"), "23");
  EXPECT_EQ(ask("leave"), "12");
  must("apply", only_second);
  const std::string id = only_listed().id;
  ask("enter");
  expect_busy(first_, {"--replace", id});
  EXPECT_EQ(ask("2"), "24");
  EXPECT_EQ(ask("leave"), "11");
  must("apply", first_, {"--replace", id});
  ask("enter");
  EXPECT_EQ(ask("leave"), "12");
  expect_untouched(before, must("revert", only_listed().id).both());
}

INSTANTIATE_TEST_SUITE_P(Scenario, SupersededBlocked,
                         testing::ValuesIn(scenario(QP_SCENARIOS, "superseded_blocked")),
                         instance_name);

class SupersededCoroutine : public Superseded {};

// Claim: the image of the first patch, which holds a variable, stays as long as a coroutine has to go on
// in code of the second one that uses it, also when both are reverted; then all of it goes.
TEST_P(SupersededCoroutine, keeps_the_variables_that_it_uses) {
  ASSERT_FALSE(HasFailure());
  const Snapshot before = snapshot();
  must("apply", first_);
  ask("suspend");
  EXPECT_EQ(ask("resume"), "113");
  must("apply", second_);
  ask("suspend");
  const CommandResult reverted = must("revert", only_listed().id, {"--consistency", "thread"});
  EXPECT_TRUE(names(reverted.both(), "kept")) << reverted.both();
  must("recover", "");
  EXPECT_EQ(ask("resume"), "313");
  must("recover", "");
  expect_untouched(before);
  ask("suspend");
  EXPECT_EQ(ask("resume"), "11");
}

INSTANTIATE_TEST_SUITE_P(Scenario, SupersededCoroutine,
                         testing::ValuesIn(scenario(QP_SCENARIOS, "superseded_coroutine")),
                         instance_name);

class SupersededCallback : public Superseded {};

// Claim: a pointer to a function that a patch brought, which the program has kept, leads to the function of
// whichever patch took its place, and to the first one's own when all are gone.
TEST_P(SupersededCallback, leads_to_the_newest) {
  ASSERT_FALSE(HasFailure());
  const std::string third = build("third.patch", "third.qp", {"--supersedes", second_});
  EXPECT_EQ(ask("c"), "-1");
  must("apply", first_);
  EXPECT_EQ(ask("w"), "1105");
  EXPECT_EQ(ask("c"), "105");
  must("apply", second_);
  EXPECT_EQ(ask("c"), "205");
  EXPECT_EQ(ask("w"), "2205") << "a table that the first patch brought";
  must("apply", third);
  EXPECT_EQ(ask("c"), "305");
  EXPECT_EQ(ask("w"), "3305");
  must("apply", first_, {"--replace", only_listed().id});
  EXPECT_EQ(ask("c"), "105");
  EXPECT_EQ(ask("w"), "1105");
  must("apply", second_);
  EXPECT_EQ(ask("c"), "205");
  EXPECT_TRUE(listed().size() == 1 && names(must("list", "").out, "on_event"));
  must("revert", only_listed().id);
  EXPECT_EQ(ask("w"), "6");
  EXPECT_EQ(ask("c"), "105");
  must("apply", second_);
  EXPECT_EQ(ask("c"), "205") << "the image of the first is there still";
  EXPECT_EQ(ask("w"), "2205");
  must("revert", only_listed().id);
  EXPECT_EQ(ask("c"), "205") << "registered anew, in the second one's image";
  EXPECT_EQ(victim().finish(), 0);
}

// Claim: who is inside such a function is waited for, also in an image that a revert kept.
TEST_P(SupersededCallback, is_not_changed_under_a_thread) {
  ASSERT_FALSE(HasFailure());
  must("apply", first_);
  EXPECT_EQ(ask("w"), "1105");
  must("revert", only_listed().id);
  EXPECT_EQ(ask("enter"), "in");
  const CommandResult busy = on_victim("apply", second_, {"--timeout", "0ms"});
  EXPECT_EQ(busy.exit_code, 4) << busy.both();
  EXPECT_TRUE(names(busy.both(), "on_event")) << busy.both();
  EXPECT_TRUE(listed().empty());
  EXPECT_EQ(ask("leave"), "105");
  must("apply", second_);
  EXPECT_EQ(ask("c"), "205");
  must("revert", only_listed().id);
  EXPECT_EQ(victim().finish(), 0);
}

// Claim: that a patch does not have a function to which such a pointer can lead is said.
TEST_P(SupersededCallback, that_has_no_heir_is_named) {
  ASSERT_FALSE(HasFailure());
  const std::string without = build("without.patch", "without.qp", {"--supersedes", first_});
  must("apply", first_);
  EXPECT_EQ(ask("w"), "1105");
  const CommandResult applied = must("apply", without);
  EXPECT_TRUE(names(applied.both(), "on_event")) << applied.both();
  EXPECT_EQ(ask("w"), "9");
  EXPECT_EQ(ask("c"), "105");
  const std::string third = build("third.patch", "third.qp", {"--supersedes", without});
  must("apply", third);
  EXPECT_EQ(ask("c"), "305") << "it knows of the first by what it supersedes";
  must("revert", only_listed().id);
  EXPECT_EQ(victim().finish(), 0);
}

INSTANTIATE_TEST_SUITE_P(Scenario, SupersededCallback,
                         testing::ValuesIn(scenario(QP_SCENARIOS, "superseded_callback")),
                         instance_name);

class SupersededShadow : public Superseded {};

// Claim: what the first patch attached to an object is what the second one finds there, and back.
TEST_P(SupersededShadow, variables_keep_their_values) {
  ASSERT_FALSE(HasFailure());
  must("apply", first_);
  EXPECT_EQ(ask("1"), "101");
  EXPECT_EQ(ask("1"), "201");
  EXPECT_EQ(ask("2"), "102");
  must("apply", second_);
  EXPECT_EQ(ask("1"), "3001");
  EXPECT_EQ(ask("2"), "2002");
  EXPECT_EQ(ask("0"), "1000");
  must("apply", first_, {"--replace", only_listed().id});
  EXPECT_EQ(ask("1"), "401");
  EXPECT_EQ(ask("0"), "200");
  must("revert", only_listed().id);
  EXPECT_EQ(ask("1"), "1");
  EXPECT_EQ(victim().finish(), 0);
}

INSTANTIATE_TEST_SUITE_P(Scenario, SupersededShadow,
                         testing::ValuesIn(scenario(QP_SCENARIOS, "superseded_shadow")),
                         instance_name);

INSTANTIATE_TEST_SUITE_P(Scenario, SupersededThreads,
                         testing::ValuesIn(scenario(QP_SCENARIOS, "superseded_threads")),
                         instance_name);
INSTANTIATE_TEST_SUITE_P(Scenario, Superseded,
                         testing::ValuesIn(scenario(QP_SCENARIOS, "superseded")), instance_name);

}  // namespace
}  // namespace qp::live
