// Thread-local variables that a patch adds. No thread of the process has room for them, so whatever
// says "as if the program had been built from the patched source" has to be shown: the victim is
// asked in threads that were there, in threads that come and go, in destructors and in handlers, and
// each answer is the one that the program built from the patched source gives to the same questions.

#include <algorithm>

#include "harness/library_victim.h"
#include "harness/live_case.h"

namespace qp::live {
namespace {
namespace fs = std::filesystem;

// Each thread is asked more than once; what the numbers mean is in threads.c.
const std::vector<std::string> kQuestions = {"0", "1", "2", "3", "4", "1", "0", "5", "6",
                                             "5", "7", "8", "9", "4", "3", "2", "0"};

class NewThreadLocal : public LiveCase {};

// Claim: new thread-local variables (initialised, zero, aligned, static in a function, pointers, of
// another unit) have the values of each thread, old and new, that they have in the program built
// from the patched source; they go when a thread ends, and stay through revert and apply.
TEST_P(NewThreadLocal, is_as_if_rebuilt) {
  prepare();
  Victim oracle(workshop().build_oracle());
  for (const std::string& question : kQuestions) {
    EXPECT_EQ(victim().ask(question), "0") << question;
  }
  const std::string patch = build_patch();
  ASSERT_FALSE(HasFailure());
  const Snapshot before = snapshot();
  CommandResult reverted;
  for (const char* when : {"after apply", "applied again"}) {
    must("apply", patch);
    ASSERT_FALSE(HasFailure());
    const Listed applied = only_listed();
    EXPECT_EQ(wrongly_applied(before, snapshot(), applied.functions.size()), "");
    for (const std::string& question : kQuestions) {
      EXPECT_EQ(victim().ask(question), oracle.ask(question)) << question << " " << when;
    }
    reverted = must("revert", applied.id);
    EXPECT_TRUE(names(reverted.both(), "kept")) << reverted.both();
    EXPECT_EQ(victim().ask("1"), "0");
  }
  expect_untouched(before, reverted.both());
  EXPECT_EQ(victim().finish(), 0);
}

std::vector<Instance> kinds_of_programs() {
  std::vector<Instance> out;
  for (const char* name : {"thread_local_new", "thread_local_new_nopie", "thread_local_new_static",
                           "thread_local_new_static_pie"}) {
    for (Instance& instance : scenario(QP_SCENARIOS, name)) {
      out.push_back(std::move(instance));
    }
  }
  return out;
}

INSTANTIATE_TEST_SUITE_P(Scenario, NewThreadLocal, testing::ValuesIn(kinds_of_programs()),
                         instance_name);

struct Loaded {
  std::string name;
  Loading how;
  std::string compiler = "gcc";
  std::vector<std::string> flags;
};

class NewThreadLocalOfLibrary : public testing::TestWithParam<Loaded> {
 protected:
  // The program's sources as one text.
  static std::string join(const fs::path& tree) {
    std::string all;
    for (const char* name : {"touch.h", "threads.c", "second.c", "victim.c"}) {
      std::string text = read_text(tree / name);
      const std::string include = "#include \"touch.h\"";
      if (const size_t at = text.find(include); at != std::string::npos) {
        text.erase(at, include.size());
      }
      all += text;
    }
    return all;
  }
};

// Claim: so it is with those of a library, loaded at start or by dlopen(), by any of the models that
// code of a library uses.
TEST_P(NewThreadLocalOfLibrary, is_as_if_rebuilt) {
  Workdir dir("NewThreadLocalOfLibrary." + GetParam().name);
  const fs::path sources = fs::path(QP_SCENARIOS) / "thread_local_new";
  fs::copy(sources, dir.path() / "a");
  fs::copy(sources, dir.path() / "b");
  dir.must_run({"patch", "-s", "-p1", "-i", "fix.patch"}, dir.path() / "b");
  LibraryRecipe recipe;
  recipe.original = join(dir.path() / "a");
  recipe.patched = join(dir.path() / "b");
  recipe.compiler = GetParam().compiler;
  recipe.flags = GetParam().flags;
  const bool linked = GetParam().how == Loading::AtStart;
  recipe.host = linked ? "#define LINKED\nvoid start_threads(void);\n"
                         "void host_start(void) { start_threads(); }\n"
                       : "void host_start(void) {\n"
                         "  ((void (*)(void))address_in_library(\"start_threads\"))();\n}\n";
  LibraryVictim made(dir, recipe, GetParam().how);
  std::unique_ptr<Victim> victim = made.start();
  const CommandResult built = made.build_patch();
  ASSERT_EQ(built.exit_code, 0) << built.both();
  const auto on_victim = [&](const std::string& verb, const std::string& what) {
    CommandResult result = dir.qpatch({verb, what, "--pid", std::to_string(victim->pid())});
    EXPECT_EQ(result.exit_code, 0) << result.both();
    return result;
  };
  const Snapshot before = take_snapshot(victim->pid());
  EXPECT_EQ(victim->ask("0"), "0");
  on_victim("apply", made.patch());
  ASSERT_FALSE(HasFailure());
  std::vector<std::string> answers;
  for (const std::string& question : kQuestions) {
    answers.push_back(victim->ask(question));
  }
  const std::string info = dir.qpatch({"info", made.patch(), "--json"}).out;
  const std::string id = info.substr(info.find("\"id\": \"") + 7, 8);
  const CommandResult reverted = on_victim("revert", id);
  EXPECT_EQ(left_behind(before, take_snapshot(victim->pid()), true), "");
  EXPECT_EQ(victim->finish(), 0);

  // The oracle: the same host with the rebuilt library.
  LibraryVictim rebuilt(dir,
                        {.original = recipe.patched,
                         .patched = recipe.patched,
                         .flags = recipe.flags,
                         .host = recipe.host,
                         .compiler = recipe.compiler},
                        GetParam().how);
  const std::unique_ptr<Victim> oracle = rebuilt.start();
  for (size_t i = 0; i < kQuestions.size(); ++i) {
    EXPECT_EQ(answers[i], oracle->ask(kQuestions[i])) << kQuestions[i];
  }
  if (HasFailure()) {
    dir.keep();
    std::cout << "kept: " << dir.path().string() << "\n" << dir.transcript();
  }
}

INSTANTIATE_TEST_SUITE_P(
    Way, NewThreadLocalOfLibrary,
    testing::Values(Loaded{"at_start", Loading::AtStart, "gcc", {}},
                    Loaded{"initial_exec", Loading::AtStart, "gcc", {"-ftls-model=initial-exec"}},
                    Loaded{"dlopen", Loading::ByDlopenLocal, "gcc", {}},
                    Loaded{"descriptors", Loading::ByDlopen, "gcc", {"-mtls-dialect=gnu2"}},
                    Loaded{"no_plt", Loading::AtStart, "gcc", {"-fno-plt"}}),
    [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace qp::live
