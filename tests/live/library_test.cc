// Shared libraries as targets: every way to load one, times everything that a library's code can
// refer to. What ld.so resolved for the old code is what the new code must use, so most of the
// features are chosen such that the shortest way (to the library's own symbol) gives another answer.
//
// The sources are made here: a library is a few lines before the function that changes, and the old
// and the new text of that function. New code adds 1000 to what the old one answers, unless a
// feature says otherwise.

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include "harness/library_victim.h"

namespace qp::live {
namespace {

struct Feature {
  std::string name;
  std::string before;              // text before answer()
  std::string old_body, new_body;  // of answer(int x)
  std::string host = "void host_start(void) {}\n";
  std::string preload;
  std::vector<std::string> flags, link_flags;
  std::string compiler = "gcc";
  // Answers to three probes with x = 1: old, new, old again; at start and with dlopen.
  std::vector<int> at_start, opened;
};

constexpr const char* kHelper = "__attribute__((noinline)) int helper(int x) { return x + 1; }\n";
constexpr const char* kOtherHelper = "int helper(int x) { return x + 100; }\n";
constexpr const char* kNoHost = "void host_start(void) {}\n";

const std::vector<Feature>& features() {
  static const std::vector<Feature> all = {
      {.name = "static_data",
       .before = "static int count = 5;\n",
       .old_body = "return x + count++;",
       .new_body = "return 1000 + x + count++;",
       .at_start = {6, 1007, 8}},
      {.name = "exported_data",  // the linked host has it in a copy of its own
       .before = "int level = 7;\n",
       .old_body = "return x + level;",
       .new_body = "return 1000 + x + level;",
       .host = "#ifdef LINKED\nextern int level;\nvoid host_start(void) { level = 20; }\n#else\n"
               "void host_start(void) {}\n#endif\n",
       .at_start = {21, 1021, 21},
       .opened = {8, 1008, 8}},
      {.name = "interposed_function",
       .before = kHelper,
       .old_body = "return helper(x);",
       .new_body = "return 1000 + helper(x);",
       .preload = kOtherHelper,
       .at_start = {101, 1101, 101}},
      {.name = "interposed_by_executable",
       .before = kHelper,
       .old_body = "return helper(x);",
       .new_body = "return 1000 + helper(x);",
       .host = std::string(kNoHost) + kOtherHelper,
       .at_start = {101, 1101, 101}},
      {.name = "bound_at_link_time",  // -Bsymbolic: the same preloaded function is not used
       .before = kHelper,
       .old_body = "return helper(x);",
       .new_body = "return 1000 + helper(x);",
       .preload = kOtherHelper,
       .link_flags = {"-Wl,-Bsymbolic"},
       .at_start = {2, 1002, 2}},
      {.name = "protected_function",
       .before = std::string("__attribute__((visibility(\"protected\"))) ") + kHelper,
       .old_body = "return helper(x);",
       .new_body = "return 1000 + helper(x);",
       .preload = kOtherHelper,
       .at_start = {2, 1002, 2}},
      {.name = "new_import",
       .before = "int strverscmp(const char*, const char*);\n",
       .old_body = "return x;",
       .new_body = "return strverscmp(\"v9\", \"v10\") < 0 ? 1000 + x : 0;",
       .at_start = {1, 1001, 1}},
      {.name = "own_function",
       .before = kHelper,
       .old_body = "return helper(x);",
       .new_body = "return 1000 + helper(x);",
       .compiler = "clang-14",
       .at_start = {2, 1002, 2}},
      {.name = "own_function_lazily_bound",  // not called before
       .before = kHelper,
       .old_body = "return x > 1 ? helper(x) : 2;",
       .new_body = "return 1000 + helper(x);",
       .link_flags = {"-Wl,-z,lazy"},
       .at_start = {2, 1002, 2}},
      {.name = "own_function_never_used",
       .before = kHelper,
       .old_body = "return x;",
       .new_body = "return 1000 + helper(x) - 1;",
       .at_start = {1, 1001, 1}},
      {.name = "function_pointer",  // the linked host's stand-in, the library's own else
       .before = std::string(kHelper) +
                 "static int (*kept)(int);\nvoid keep(int (*f)(int)) { kept = f; }\n",
       .old_body = "return x + (kept == helper);",
       .new_body = "return 1000 + x + (kept == helper);",
       .host =
           "#ifdef LINKED\nint helper(int);\nvoid keep(int (*)(int));\n"
           "void host_start(void) { keep(helper); }\n#else\n"
           "void host_start(void) {\n"
           "  ((void (*)(void*))address_in_library(\"keep\"))(address_in_library(\"helper\"));\n"
           "}\n#endif\n",
       .at_start = {2, 1002, 2}},
      {.name = "pointer_of_replaced_function",
       .before = "int answer(int);\nstatic int (*kept)(int);\n"
                 "void keep(int (*f)(int)) { kept = f; }\n",
       .old_body = "return x + (kept == answer);",
       .new_body = "return 1000 + x + (kept == answer);",
       .host =
           "#ifdef LINKED\nint answer(int);\nvoid keep(int (*)(int));\n"
           "void host_start(void) { keep(answer); }\n#else\n"
           "void host_start(void) {\n"
           "  ((void (*)(void*))address_in_library(\"keep\"))(address_in_library(\"answer\"));\n"
           "}\n#endif\n",
       .at_start = {2, 1002, 2}},
      {.name = "table_of_functions",  // pointers in new read-only data
       .before = std::string(kHelper) + "static int same(int x) { return x; }\n",
       .old_body = "return helper(same(x));",
       .new_body = "static int (*const steps[])(int) = {helper, same};\n"
                   "  return 1000 + steps[x](steps[x - 1](x)) ;",
       .preload = kOtherHelper,
       .at_start = {101, 1101, 101}},
      {.name = "static_thread_local",
       .before = "static __thread int calls = 3, others = 4;\n",
       .old_body = "return x + calls++ + others;",
       .new_body = "return 1000 + x + calls++ + others;",
       .at_start = {8, 1009, 10}},
      {.name = "exported_thread_local",
       .before = "__thread int pad = 1, calls = 3;\n",
       .old_body = "return x + calls++;",
       .new_body = "return 1000 + x + calls++;",
       .at_start = {4, 1005, 6}},
      {.name = "thread_local_of_executable",
       .before = "extern __thread int calls;\n",
       .old_body = "return x + calls++;",
       .new_body = "return 1000 + x + calls++;",
       .host = std::string(kNoHost) + "__thread int before = 9, calls = 3;\n",
       .at_start = {4, 1005, 6}},
      {.name = "initial_exec_thread_local",
       .before = "static __thread int pad = 9, calls = 3; extern __thread int calls_of_host;\n",
       .old_body = "return x + calls++ + pad + calls_of_host++;",
       .new_body = "return 1000 + x + calls++ + pad + calls_of_host++;",
       .host = std::string(kNoHost) + "__thread int before = 9, calls_of_host = 5;\n",
       .flags = {"-ftls-model=initial-exec"},
       .at_start = {18, 1020, 22}},
      {.name = "thread_local_without_slot",  // of the kind that new code needs
       .before = "static __thread int pad = 1, calls = 3; __thread int more = 4;\n"
                 "extern __thread int calls_of_host __attribute__((tls_model(\"initial-exec\")));\n"
                 "extern __thread int others_of_host;\n",
       .old_body = "return x + calls++ + pad;",
       .new_body = "return 1000 + x + calls++ + more++ + calls_of_host++ + others_of_host++;",
       .host = std::string(kNoHost) +
               "__thread int before = 9, calls_of_host = 5, others_of_host = 6;\n",
       .at_start = {5, 1020, 7}},
      {.name = "descriptor_thread_local",
       .before = "static __thread int calls = 3; __thread int more = 4;\n",
       .old_body = "return x + calls++ + more++;",
       .new_body = "return 1000 + x + calls++ + more++;",
       .flags = {"-mtls-dialect=gnu2"},
       .at_start = {8, 1010, 12}},
      {.name = "thread_local_of_clang",
       .before = "static __thread int calls = 3; __thread int more = 4;\n",
       .old_body = "return x + calls++ + more++;",
       .new_body = "return 1000 + x + calls++ + more++;",
       .compiler = "clang-14",
       .at_start = {8, 1010, 12}},
      {.name = "linked_by_gold",
       .before = std::string(kHelper) + "static __thread int calls = 3; __thread int more = 4;\n",
       .old_body = "return helper(x) + calls++ + more++;",
       .new_body = "return 1000 + helper(x) + calls++ + more++;",
       .preload = kOtherHelper,
       .link_flags = {"-fuse-ld=gold"},
       .at_start = {108, 1110, 112}},
      {.name = "linked_by_lld",
       .before = std::string(kHelper) + "static __thread int calls = 3; __thread int more = 4;\n",
       .old_body = "return helper(x) + calls++ + more++;",
       .new_body = "return 1000 + helper(x) + calls++ + more++;",
       .preload = kOtherHelper,
       .link_flags = {"-fuse-ld=lld"},
       .at_start = {108, 1110, 112}},
      {.name = "musl",
       .before = std::string(kHelper) + "static __thread int calls = 3; __thread int more = 4;\n",
       .old_body = "return helper(x) + calls++ + more++;",
       .new_body = "extern int getppid(void);\n"
                   "  return 1000 + helper(x) + calls++ + more++ + (getppid() == 0);",
       .preload = kOtherHelper,
       .compiler = "musl-gcc",
       .at_start = {108, 1110, 112}},
      {.name = "strings",
       .old_body = "static const char* const words[] = {\"zero\", \"one\"};\n  return words[x][0];",
       .new_body = "static const char* const words[] = {\"Zero\", \"One\"};\n  return words[x][0];",
       .at_start = {'o', 'O', 'o'}},
      {.name = "static_function",
       .before = "static __attribute__((noinline)) int twice(int x) { return x * FACTOR; }\n",
       .old_body = "return twice(x);",
       .new_body = "return twice(x);",
       .at_start = {2, 3, 2}},
  };
  return all;
}

std::string text_of(const Feature& feature, bool patched) {
  std::string before = feature.before;
  if (const size_t at = before.find("FACTOR"); at != std::string::npos) {
    before.replace(at, 6, patched ? "3" : "2");
  }
  return before + "\nint answer(int x) {\n  " + (patched ? feature.new_body : feature.old_body) +
         "\n}\n"
         // Behind it, so that there is padding between.
         "int last(int x) { return x; }\n";
}

LibraryRecipe recipe_for(const Feature& feature, Loading how) {
  LibraryRecipe out;
  out.original = text_of(feature, false);
  out.patched = text_of(feature, true);
  out.flags = feature.flags;
  out.link_flags = feature.link_flags;
  out.host = (how == Loading::AtStart ? "#define LINKED\n" : "") + feature.host;
  out.preload = feature.preload;
  out.compiler = feature.compiler;
  return out;
}

const Feature& feature_named(const std::string& name) {
  return *std::find_if(features().begin(), features().end(),
                       [&](const Feature& f) { return f.name == name; });
}

// Everything that a test of a library does with its directory and its victim.
class Library : public testing::Test {
 protected:
  void make(const LibraryRecipe& recipe, Loading how) {
    const testing::TestInfo* info = testing::UnitTest::GetInstance()->current_test_info();
    std::string name = std::string(info->test_suite_name()) + "." + info->name();
    std::replace(name.begin(), name.end(), '/', '.');
    dir_ = std::make_unique<Workdir>(name);
    made_ = std::make_unique<LibraryVictim>(*dir_, recipe, how);
    const CommandResult built = made_->build_patch();
    ASSERT_EQ(built.exit_code, 0) << built.both();
  }
  void TearDown() override {
    victim_.reset();
    if (HasFailure() && dir_ != nullptr) {
      dir_->keep();
      std::cout << "kept: " << dir_->path().string() << "\n" << dir_->transcript();
    }
  }
  CommandResult on_victim(const std::string& verb, const std::string& what) {
    return dir_->qpatch({verb, what, "--pid", std::to_string(victim_->pid())});
  }
  std::string id() {
    const std::string text = dir_->qpatch({"info", made_->patch(), "--json"}).out;
    const size_t at = text.find("\"id\": \"");
    return at == std::string::npos ? "" : text.substr(at + 7, 8);
  }
  // Old answer, apply, new answer, revert, old answer; nothing is left.
  CommandResult live_through(const std::vector<int>& answers) {
    EXPECT_EQ(victim_->ask("1"), std::to_string(answers[0])) << "before apply";
    const Snapshot before = take_snapshot(victim_->pid());
    CommandResult applied = on_victim("apply", made_->patch());
    EXPECT_EQ(applied.exit_code, 0) << applied.both();
    EXPECT_EQ(victim_->ask("1"), std::to_string(answers[1])) << "after apply";
    EXPECT_EQ(wrongly_applied(before, take_snapshot(victim_->pid()), 1), "");
    const CommandResult listed = on_victim("list", "--json");
    EXPECT_NE(listed.out.find("libvictim.so"), std::string::npos) << listed.both();
    const CommandResult inside = on_victim("stacks", id());
    EXPECT_EQ(inside.exit_code, 0) << inside.both();
    const CommandResult reverted = on_victim("revert", id());
    EXPECT_EQ(reverted.exit_code, 0) << reverted.both();
    EXPECT_EQ(victim_->ask("1"), std::to_string(answers[2])) << "after revert";
    EXPECT_EQ(left_behind(before, take_snapshot(victim_->pid()), names(reverted.both(), "kept")),
              "");
    return applied;
  }
  // `check` and `apply` refuse with this id and change nothing.
  void expect_refused(const std::string& refusal, const std::string& thing) {
    const Snapshot before = take_snapshot(victim_->pid());
    for (const char* verb : {"check", "apply"}) {
      const CommandResult result = on_victim(verb, made_->patch());
      EXPECT_EQ(result.exit_code, 3) << result.both();
      EXPECT_TRUE(names(result.both(), refusal)) << result.both();
      EXPECT_NE(result.both().find(thing), std::string::npos) << result.both();
      EXPECT_EQ(left_behind(before, take_snapshot(victim_->pid())), "");
    }
  }

  std::unique_ptr<Workdir> dir_;
  std::unique_ptr<LibraryVictim> made_;
  std::unique_ptr<Victim> victim_;
};

class LibraryFeature : public Library,
                       public testing::WithParamInterface<std::tuple<Loading, std::string>> {};

// Claim: a library that a process has by any way is patched, its new code refers to the same things
// as its old code, and a revert gives everything back. In one of the ways the process has another
// build of the library than the patch was made for.
TEST_P(LibraryFeature, is_what_the_old_code_had) {
  const auto& [how, name] = GetParam();
  const Feature& feature = feature_named(name);
  make(recipe_for(feature, how), how);
  ASSERT_FALSE(HasFatalFailure());
  if (how == Loading::ByDlopenLocal) {
    made_->build_another();
  }
  victim_ = made_->start();
  const bool linked = how == Loading::AtStart || feature.opened.empty();
  live_through(linked ? feature.at_start : feature.opened);
  EXPECT_EQ(victim_->finish(), 0);
}

std::vector<std::string> feature_names() {
  std::vector<std::string> out;
  for (const Feature& feature : features()) {
    out.push_back(feature.name);
  }
  return out;
}

INSTANTIATE_TEST_SUITE_P(Matrix, LibraryFeature,
                         testing::Combine(testing::Values(Loading::AtStart, Loading::ByDlopen,
                                                          Loading::ByDlopenLocal),
                                          testing::ValuesIn(feature_names())),
                         [](const auto& test) {
                           return std::get<1>(test.param) + "_" + name_of(std::get<0>(test.param));
                         });

// Claim: a function that another module's takes the place of is replaced, and the user is told that
// callers by name run the other one.
TEST_F(Library, function_that_gives_way_is_reported) {
  LibraryRecipe recipe = recipe_for(feature_named("static_data"), Loading::AtStart);
  recipe.preload = "int answer(int x) { return 5000 + x; }\n";
  make(recipe, Loading::AtStart);
  ASSERT_FALSE(HasFatalFailure());
  victim_ = made_->start();
  const CommandResult applied = live_through({5001, 5001, 5001});
  EXPECT_NE(applied.both().find("gives way to the one in"), std::string::npos) << applied.both();
  EXPECT_NE(applied.both().find("preload.so"), std::string::npos) << applied.both();
}

// Claim: a library whose file was replaced on disk is patched by the mapped file.
TEST_F(Library, replaced_on_disk_is_patched) {
  make(recipe_for(feature_named("static_data"), Loading::ByDlopen), Loading::ByDlopen);
  ASSERT_FALSE(HasFatalFailure());
  victim_ = made_->start();
  std::filesystem::remove(made_->library());
  dir_->write_file("build/libvictim.so", "another file");
  live_through({6, 1007, 8});
}

// Claim: after a library was unloaded, and also loaded again, `list` says that the patch is not
// there any more, `recover` takes its image away, and the patch can be applied again.
TEST_F(Library, unloaded_and_loaded_again_is_recovered) {
  make(recipe_for(feature_named("static_data"), Loading::ByDlopenLocal), Loading::ByDlopenLocal);
  ASSERT_FALSE(HasFatalFailure());
  victim_ = made_->start();
  for (const bool again : {false, true}) {
    EXPECT_EQ(victim_->ask("1"), "6");
    EXPECT_EQ(on_victim("apply", made_->patch()).exit_code, 0);
    EXPECT_EQ(victim_->ask("1"), "1007");
    EXPECT_EQ(victim_->ask("close"), "0");
    if (again) {
      EXPECT_EQ(victim_->ask("open"), "1");
    }
    EXPECT_EQ(on_victim("list", "--json").exit_code, 9);
    const Snapshot before = take_snapshot(victim_->pid());
    EXPECT_EQ(on_victim("revert", id()).exit_code, 9);
    EXPECT_EQ(left_behind(before, take_snapshot(victim_->pid())), "");
    const CommandResult recovered =
        dir_->qpatch({"recover", "--pid", std::to_string(victim_->pid())});
    EXPECT_EQ(recovered.exit_code, 0) << recovered.both();
    EXPECT_EQ(on_victim("list", "--json").exit_code, 0);
    for (const MappedRange& m : take_snapshot(victim_->pid()).mappings) {
      EXPECT_EQ(m.name.find(".qpi"), std::string::npos) << m.name;
    }
    if (!again) {
      EXPECT_EQ(victim_->ask("open"), "1");
    }
  }
  live_through({6, 1007, 8});
}

// Claim: `--all` finds the processes by the library, whatever their program is called, and no
// others.
TEST_F(Library, all_processes_that_map_it_are_found) {
  make(recipe_for(feature_named("static_data"), Loading::ByDlopenLocal), Loading::ByDlopenLocal);
  ASSERT_FALSE(HasFatalFailure());
  std::filesystem::copy_file(dir_->path() / "host", dir_->path() / "another");
  victim_ = made_->start();
  const std::unique_ptr<Victim> other = made_->start("another");
  // The exit code tells about all processes of the machine, also those that are not ours.
  const CommandResult applied = dir_->qpatch({"apply", made_->patch(), "--all"});
  EXPECT_NE(applied.out.find("patched 2"), std::string::npos) << applied.both();
  EXPECT_EQ(victim_->ask("1"), "1006");
  EXPECT_EQ(other->ask("1"), "1006");
  const CommandResult reverted = dir_->qpatch({"revert", id(), "--all"});
  EXPECT_NE(reverted.out.find("reverted 2"), std::string::npos) << reverted.both();
  EXPECT_EQ(victim_->ask("1"), "7");
  EXPECT_EQ(other->ask("1"), "7");
}

// Claim: a second copy of the library, another file of the same content, is patched as well, in the
// same transaction.
TEST_F(Library, copied_to_another_path_is_patched_twice) {
  make(recipe_for(feature_named("static_data"), Loading::ByDlopenLocal), Loading::ByDlopenLocal);
  ASSERT_FALSE(HasFatalFailure());
  const std::filesystem::path copy = dir_->path() / "copy.so";
  std::filesystem::copy_file(made_->library(), copy);
  victim_ = made_->start("host", {{"ALSO_LOAD", copy}});
  const Snapshot before = take_snapshot(victim_->pid());
  EXPECT_EQ(victim_->ask("1"), "6");
  EXPECT_EQ(on_victim("apply", made_->patch()).exit_code, 0);
  EXPECT_EQ(victim_->ask("1"), "1007");
  EXPECT_EQ(wrongly_applied(before, take_snapshot(victim_->pid()), 2), "");
  const CommandResult reverted = on_victim("revert", id());
  EXPECT_EQ(reverted.exit_code, 0) << reverted.both();
  EXPECT_EQ(victim_->ask("1"), "8");
  EXPECT_EQ(left_behind(before, take_snapshot(victim_->pid())), "") << reverted.both();
}

// Claim: a process with the library in two namespaces is refused.
TEST_F(Library, in_two_namespaces_is_refused) {
  make(recipe_for(feature_named("static_data"), Loading::ByDlopenLocal), Loading::ByDlopenLocal);
  ASSERT_FALSE(HasFatalFailure());
  victim_ = made_->start("host", {{"ALSO_LOAD", made_->library()}, {"ELSEWHERE", "1"}});
  expect_refused("other-namespace", "libvictim.so");
}

// Refusal: other-namespace
// Claim: a library in a namespace of its own is refused.
TEST_F(Library, in_another_namespace_is_refused) {
  make(recipe_for(feature_named("new_import"), Loading::ByDlopenLocal), Loading::ByDlopenLocal);
  ASSERT_FALSE(HasFatalFailure());
  victim_ = made_->start("host", {{"ELSEWHERE", "1"}});
  expect_refused("other-namespace", "libvictim.so");
}

// Refusal: interposed
// Claim: a function of the library that the linker bound at once, while a preloaded one has its
// name, is refused: from outside nothing tells which of them is meant.
TEST_F(Library, bound_at_once_and_interposed_is_refused) {
  LibraryRecipe recipe = recipe_for(feature_named("interposed_function"), Loading::AtStart);
  recipe.link_flags = {"-Wl,-Bsymbolic-functions"};
  make(recipe, Loading::AtStart);
  ASSERT_FALSE(HasFatalFailure());
  victim_ = made_->start();
  expect_refused("interposed", "helper");
  EXPECT_EQ(victim_->ask("1"), "2");
}

// Claim: a GOT slot that somebody wrote his own function into is refused.
TEST_F(Library, with_a_hooked_slot_is_refused) {
  LibraryRecipe recipe = recipe_for(feature_named("own_function"), Loading::AtStart);
  recipe.compiler = "gcc";
  recipe.host = R"(
#include <link.h>
#include <string.h>
static int hook(int x) { return x + 500; }
static int find(struct dl_phdr_info* info, size_t size, void* data) {
  ElfW(Dyn)* d = 0;
  (void)size, (void)data;
  if (!strstr(info->dlpi_name, "libvictim")) return 0;
  for (int i = 0; i < info->dlpi_phnum; ++i)
    if (info->dlpi_phdr[i].p_type == PT_DYNAMIC)
      d = (ElfW(Dyn)*)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
  ElfW(Rela)* r = 0;
  for (; d->d_tag; ++d)
    if (d->d_tag == DT_JMPREL) r = (ElfW(Rela)*)d->d_un.d_ptr;
  *(void**)(info->dlpi_addr + r->r_offset) = (void*)hook;
  return 1;
}
void host_start(void) { dl_iterate_phdr(find, 0); }
)";
  recipe.link_flags = {"-Wl,-z,lazy"};
  make(recipe, Loading::AtStart);
  ASSERT_FALSE(HasFatalFailure());
  victim_ = made_->start();
  EXPECT_EQ(victim_->ask("1"), "501");
  expect_refused("interposed", "helper");
  EXPECT_EQ(victim_->ask("1"), "501");
}

// Claim: a new function of the patch whose name another module has is refused: the library rebuilt
// would use that one.
TEST_F(Library, new_function_of_a_taken_name_is_refused) {
  LibraryRecipe recipe = recipe_for(feature_named("static_data"), Loading::AtStart);
  const std::string call = "return 1000 + x + count++;";
  recipe.patched = kHelper + recipe.patched;
  recipe.patched.replace(recipe.patched.find(call), call.size(), "return helper(x) + count++;");
  recipe.preload = kOtherHelper;
  make(recipe, Loading::AtStart);
  ASSERT_FALSE(HasFatalFailure());
  victim_ = made_->start();
  expect_refused("interposed", "helper");
}

}  // namespace
}  // namespace qp::live
