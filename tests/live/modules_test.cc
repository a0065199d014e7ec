// One patch for several modules of a process: an executable, a library that it is linked against, a
// library that it opens (as often as it is told to), and a unit of a static library that is linked
// into two of them. The fix changes what the executable and its library say to each other, so that
// any moment in which only one of them is patched gives a wrong answer.
//
// The victim answers a number N with three: what came back from the library (N, as long as both
// sides agree), what the shared unit makes of it in the executable and in the library, and the sum of
// what the opened libraries answer.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "harness/snapshot.h"
#include "harness/victim.h"
#include "harness/workdir.h"

namespace qp::live {
namespace {

namespace fs = std::filesystem;

constexpr const char* kApp = R"(
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
int encode(int x);
int scale_there(int x);
int scale(int x) __attribute__((visibility("hidden")));
int extra(int x);
__attribute__((noinline)) static void between(int wait) {
  char line[16];
  if (wait) {
    puts("between");
    fflush(stdout);
    if (!fgets(line, sizeof line, stdin)) exit(1);
  }
}
__attribute__((noinline)) int round_trip(int x, int wait) {
  int code = encode(x);
  between(wait);
  return ANSWER;
}
static int (*opened[8])(int);
static int count;
static void open_library(const char* path, int elsewhere) {
  void* library = elsewhere ? dlmopen(LM_ID_NEWLM, path, RTLD_NOW) : dlopen(path, RTLD_NOW);
  if (!library) {
    puts(dlerror());
    exit(1);
  }
  opened[count++] = (int (*)(int))dlsym(library, "opened_answer");
}
void probe(const char* request) {
  int x = atoi(request), sum = 0;
  if (!strncmp(request, "open ", 5)) {
    open_library(request + 5, 0);
  } else if (!strncmp(request, "elsewhere ", 10)) {
    open_library(request + 10, 1);
  } else if (!strcmp(request, "map")) {
    int fd = open("/proc/self/exe", O_RDONLY);
    mmap(0, (size_t)lseek(fd, 0, SEEK_END), PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
    close(fd);
  } else if (!strncmp(request, "wait ", 5)) {
    printf("%d", round_trip(atoi(request + 5), 1));
    return;
  }
  for (int i = 0; i < count; ++i) sum += opened[i](x);
  printf("%d %d %d %d", round_trip(x, 0), scale(x), scale_there(x), sum);
}
)";

constexpr const char* kNear = R"(
int scale(int x) __attribute__((visibility("hidden")));
EXTRA
int encode(int x) { return x + CODE; }
int scale_there(int x) { return scale(x); }
int near_last(int x) { return x; }
)";

constexpr const char* kFar = R"(
static int calls;
int opened_answer(int x) { return x * FACTOR + calls++ * 0; }
int far_last(int x) { return x; }
)";

constexpr const char* kBoth = R"(
__attribute__((visibility("hidden"))) int scale(int x) { return x * SCALE; }
)";

// The text with what `original` and `patched` differ in.
std::string filled(std::string text, const std::map<std::string, std::string>& words) {
  for (const auto& [word, value] : words) {
    for (size_t at = text.find(word); at != std::string::npos; at = text.find(word, at)) {
      text.replace(at, word.size(), value);
    }
  }
  return text;
}

// What the victim says to "1".
constexpr const char* kOld = "1 10 10 ";
constexpr const char* kNew = "1001 20 20 ";

class Modules : public testing::Test {
 protected:
  void SetUp() override {
    const testing::TestInfo* info = testing::UnitTest::GetInstance()->current_test_info();
    dir_ = std::make_unique<Workdir>(std::string(info->test_suite_name()) + "." + info->name());
    write_sources(
        "src",
        {{"ANSWER", "code - 7"}, {"CODE", "7"}, {"EXTRA", ""}, {"FACTOR", "3"}, {"SCALE", "10"}});
    write_sources("new", {{"ANSWER", "code - 70 + extra(x)"},
                          {"CODE", "70"},
                          {"EXTRA", "int extra(int x) { return x * 0 + 1000; }"},
                          {"FACTOR", "5"},
                          {"SCALE", "20"}});
    make_program();
  }
  void TearDown() override {
    victim_.reset();
    if (HasFailure()) {
      dir_->keep();
      std::cout << "kept: " << dir_->path().string() << "\n" << dir_->transcript();
    }
  }

  void write_sources(const std::string& tree, const std::map<std::string, std::string>& words) {
    dir_->write_file(tree + "/app.c", filled(kApp, words));
    dir_->write_file(tree + "/near.c", filled(kNear, words));
    dir_->write_file(tree + "/far.c", filled(kFar, words));
    dir_->write_file(tree + "/both.c", filled(kBoth, words));
  }
  void make_program() {
    const fs::path build = dir_->path() / "build";
    fs::create_directories(build);
    auto entries = nlohmann::json::array();
    for (const char* unit : {"app", "near", "far", "both"}) {
      const fs::path source = dir_->path() / "src" / (std::string(unit) + ".c");
      const std::vector<std::string> command = {
          "gcc", "-O2", "-fPIC", "-c", source, "-o", std::string(unit) + ".o"};
      dir_->must_run(command, build);
      entries.push_back(
          {{"directory", build.string()}, {"file", source.string()}, {"arguments", command}});
    }
    dir_->write_file("build/compile_commands.json", entries.dump());
    const std::string id = "-Wl,--build-id=sha1";
    dir_->must_run({"gcc", "-shared", id, "-o", "libnear.so", "near.o", "both.o"}, build);
    dir_->must_run({"gcc", "-shared", id, "-o", "libfar.so", "far.o"}, build);
    dir_->must_run({"gcc", "-O1", id, "-o", "app", "app.o", "both.o", QP_PROTOCOL, "libnear.so",
                    "-Wl,-rpath," + build.string()},
                   build);
    fs::copy_file(build / "libfar.so", build / "copy.so");
  }
  CommandResult build_patch(const std::vector<std::string>& targets) {
    std::vector<std::string> arguments = {"build",         "--compdb", build(), "--cve",
                                          "CVE-2026-0042", "-o",       patch()};
    for (const char* unit : {"app", "near", "far", "both"}) {
      const std::string file = std::string(unit) + ".c";
      dir_->write_file(file + ".patch",
                       dir_->run({"diff", "-u", "src/" + file, "new/" + file}).out);
      arguments.insert(arguments.end(), {"--patch", dir_->path() / (file + ".patch")});
    }
    for (const std::string& target : targets) {
      arguments.insert(arguments.end(), {"--target", build() / target});
    }
    return dir_->qpatch(arguments, dir_->path() / "src");
  }
  void make_patch() {
    const CommandResult built = build_patch({"app", "libnear.so", "libfar.so"});
    ASSERT_EQ(built.exit_code, 0) << built.both();
  }
  void start(const std::vector<std::string>& requests) {
    victim_ = std::make_unique<Victim>(build() / "app");
    for (const std::string& request : requests) {
      victim_->ask(request);
    }
  }
  std::string open_far() const { return "open " + (build() / "libfar.so").string(); }
  std::string open_copy() const { return "open " + (build() / "copy.so").string(); }

  fs::path build() const { return dir_->path() / "build"; }
  fs::path patch() const { return dir_->path() / "fix.qp"; }
  CommandResult on_victim(const std::string& verb, const std::string& what,
                          const std::vector<std::string>& more = {}) {
    std::vector<std::string> arguments = {verb};
    if (!what.empty()) {
      arguments.push_back(what);
    }
    arguments.insert(arguments.end(), {"--pid", std::to_string(victim_->pid())});
    arguments.insert(arguments.end(), more.begin(), more.end());
    return dir_->qpatch(arguments);
  }
  CommandResult must(const std::string& verb, const std::string& what,
                     const std::vector<std::string>& more = {}) {
    CommandResult result = on_victim(verb, what, more);
    EXPECT_EQ(result.exit_code, 0) << verb << ":\n" << result.both();
    return result;
  }
  Snapshot snapshot() const { return take_snapshot(victim_->pid()); }
  // Of the only patch in the victim: how many images it has; 0 if there is none.
  size_t images() {
    const auto json = nlohmann::json::parse(must("list", "", {"--json"}).out);
    const auto& patches = json["processes"][0]["patches"];
    EXPECT_LE(patches.size(), 1U) << patches;
    return patches.empty() ? 0 : patches[0]["targets"].size();
  }
  std::unique_ptr<Workdir> dir_;
  std::unique_ptr<Victim> victim_;
};

constexpr const char* kCve = "CVE-2026-0042";

// Claim: a patch of three modules, one of which a process has twice, goes in and comes out as a
// whole, new code of the executable finds what the library defines anew, and list, stacks and info
// tell of all of it.
TEST_F(Modules, are_patched_and_reverted_together) {
  make_patch();
  ASSERT_FALSE(HasFatalFailure());
  const CommandResult sections = dir_->must_run({"readelf", "-SW", patch()});
  for (const char* name : {".qpatch.part.app", ".qpatch.part.libnear.so", ".qpatch.meta"}) {
    EXPECT_NE(sections.out.find(name), std::string::npos) << sections.both();
  }
  const auto info =
      nlohmann::json::parse(dir_->must_run({qpatch_program(), "info", "--json", patch()}).out);
  ASSERT_EQ(info["parts"].size(), 3U) << info;
  EXPECT_EQ(info["parts"][1]["target"]["name"], "libnear.so");
  start({open_far(), open_copy()});
  fs::remove(build() / "libnear.so");  // an upgrade
  dir_->write_file("build/libnear.so", "another file");

  const Snapshot before = snapshot();
  EXPECT_EQ(victim_->ask("1"), std::string(kOld) + "6");
  EXPECT_TRUE(names(must("check", patch()).both(), "patchable"));
  EXPECT_EQ(left_behind(before, snapshot()), "");
  must("apply", patch());
  EXPECT_EQ(victim_->ask("1"), std::string(kNew) + "10");
  EXPECT_EQ(wrongly_applied(before, snapshot(), 6), "");
  EXPECT_EQ(images(), 4U);
  EXPECT_TRUE(names(must("apply", patch()).both(), "already"));
  must("stacks", kCve);
  must("stacks", patch());
  EXPECT_TRUE(names(must("recover", "").both(), "nothing to recover"));
  const CommandResult reverted = must("revert", kCve);
  EXPECT_EQ(victim_->ask("1"), std::string(kOld) + "6");
  EXPECT_EQ(left_behind(before, snapshot()), "") << reverted.both();
  EXPECT_EQ(victim_->finish(), 0);
}

// A hook that gives the module's own object a shadow variable, before everything else in the file.
std::string with_field(const std::string& text, int value) {
  return filled(R"(#include <qpatch/hooks.h>
static const char object;
static int field(void) {
  const int* found = qpatch_shadow_get(&object, 7);
  return found ? *found : -1;
}
static int give_field(struct qpatch_hook_context* context) {
  int* made = qpatch_shadow_attach(&object, 7, sizeof *made);
  if (!made) return 1;
  *made += context->when == QPATCH_WHEN_PRE_APPLY ? VALUE : 0;
  return 0;
}
QPATCH_PRE_APPLY(give_field, QPATCH_STOPPED);
)",
                {{"VALUE", std::to_string(value)}}) +
         text;
}

// Claim: hooks and shadow variables of an executable and of its library go in as one patch; each hook
// runs once per apply, and each module finds its own variables, after a revert as well.
TEST_F(Modules, have_hooks_and_shadow_variables_each) {
  const std::map<std::string, std::string> words = {
      {"ANSWER", "code - 70 + extra(x) + field()"},
      {"CODE", "70"},
      {"EXTRA", "int extra(int x) { return x * 0 + 1000 + field(); }"}};
  dir_->write_file("new/app.c", with_field(filled(kApp, words), 20000));
  dir_->write_file("new/near.c", with_field(filled(kNear, words), 300000));
  make_patch();
  ASSERT_FALSE(HasFatalFailure());
  start({});
  EXPECT_EQ(victim_->ask("1"), std::string(kOld) + "0");
  must("apply", patch());
  EXPECT_EQ(victim_->ask("1"), "321001 20 20 0");
  must("revert", kCve);
  EXPECT_EQ(victim_->ask("1"), std::string(kOld) + "0");
  must("apply", patch());
  EXPECT_EQ(victim_->ask("1"), "641001 20 20 0");
  must("revert", kCve);
  EXPECT_EQ(victim_->ask("1"), std::string(kOld) + "0");
  EXPECT_EQ(victim_->finish(), 0);
}

// Claim: nobody sees the executable's new code with the library's old one, however long a function
// of one of them is between the two.
TEST_F(Modules, do_not_switch_in_the_middle_of_a_protocol) {
  make_patch();
  ASSERT_FALSE(HasFatalFailure());
  start({open_far()});
  const Snapshot before = snapshot();
  EXPECT_EQ(victim_->ask("wait 1"), "between");
  const CommandResult busy = on_victim("apply", patch(), {"--timeout", "50ms"});
  EXPECT_EQ(busy.exit_code, 4) << busy.both();
  EXPECT_TRUE(names(busy.both(), "round_trip")) << busy.both();
  EXPECT_EQ(left_behind(before, snapshot()), "");
  EXPECT_EQ(victim_->ask("go"), "1");
  must("apply", patch());
  EXPECT_EQ(victim_->ask("1"), std::string(kNew) + "5");
  EXPECT_EQ(victim_->ask("wait 1"), "between");
  EXPECT_EQ(on_victim("revert", kCve, {"--timeout", "50ms"}).exit_code, 4);
  EXPECT_EQ(victim_->ask("go"), "1001");
  must("revert", kCve);
  EXPECT_EQ(victim_->ask("1"), std::string(kOld) + "3");
}

// Claim: a part whose library the process does not have is named; when the library is opened, the
// same apply patches it, and one revert takes everything out.
TEST_F(Modules, that_are_absent_are_named_and_patched_later) {
  make_patch();
  ASSERT_FALSE(HasFatalFailure());
  start({});
  const CommandResult applied = must("apply", patch());
  EXPECT_NE(applied.both().find("libfar.so is not mapped"), std::string::npos) << applied.both();
  EXPECT_EQ(victim_->ask("1"), std::string(kNew) + "0");
  EXPECT_EQ(images(), 2U);
  victim_->ask(open_far());
  EXPECT_EQ(victim_->ask("1"), std::string(kNew) + "3");
  must("apply", patch());
  EXPECT_EQ(victim_->ask("1"), std::string(kNew) + "5");
  EXPECT_EQ(images(), 3U);
  must("revert", kCve);
  EXPECT_EQ(victim_->ask("1"), std::string(kOld) + "3");
  EXPECT_EQ(images(), 0U);

  // Found by any of the parts; the exit code tells about all processes of the machine.
  const CommandResult all = dir_->qpatch({"apply", patch(), "--exe", build() / "app"});
  EXPECT_EQ(all.exit_code, 0) << all.both();
  EXPECT_EQ(victim_->ask("1"), std::string(kNew) + "5");
}

// Refusal: mapped-twice
// Claim: a module that can't be told apart from another mapping of it, or that is in a namespace of
// its own, makes the whole patch refused.
TEST_F(Modules, are_refused_together) {
  make_patch();
  ASSERT_FALSE(HasFatalFailure());
  const std::string elsewhere = "elsewhere " + (build() / "libfar.so").string();
  for (const auto& [request, refusal] :
       {std::pair{elsewhere, "other-namespace"}, std::pair{std::string("map"), "mapped-twice"}}) {
    start({request});
    const Snapshot before = snapshot();
    for (const char* verb : {"check", "apply"}) {
      const CommandResult result = on_victim(verb, patch());
      EXPECT_EQ(result.exit_code, 3) << result.both();
      EXPECT_TRUE(names(result.both(), refusal)) << result.both();
      EXPECT_EQ(left_behind(before, snapshot()), "");
    }
  }
}

// Claim: whichever step of the transaction fails, or kills qpatch, between one module and the next,
// all of them are as they were then, or are after `recover`.
TEST_F(Modules, are_all_or_nothing_at_every_step_between_them) {
  make_patch();
  ASSERT_FALSE(HasFatalFailure());
  start({open_far(), open_copy()});
  const Snapshot before = snapshot();
  const std::string old_answer = std::string(kOld) + "6", new_answer = std::string(kNew) + "10";
  const auto run = [&](const char* how, const std::string& point, const std::string& verb) {
    setenv(how, point.c_str(), 1);
    const CommandResult result = on_victim(verb, verb == "apply" ? patch().string() : kCve);
    unsetenv(how);
    EXPECT_NE(result.exit_code, 0) << point << " was not reached:\n" << result.both();
    return result;
  };
  for (const std::string point :
       {"stage.opened:2", "stage.mapped:2", "stage.mapped:4", "stage.written:2", "commit.begun:2",
        "commit.detour:3", "commit.finish:1", "commit.finish:2", "commit.finish:4"}) {
    SCOPED_TRACE(point);
    run("QPATCH_FAULT", point, "apply");
    EXPECT_EQ(left_behind(before, snapshot()), "");
    EXPECT_EQ(victim_->ask("1"), old_answer);
    run("QPATCH_FAULT_KILL", point, "apply");
    const std::string between = victim_->ask("1");
    EXPECT_TRUE(between == old_answer || point.starts_with("commit.")) << between;
    const CommandResult recovered = must("recover", "");
    EXPECT_EQ(victim_->ask("1"), old_answer);
    EXPECT_EQ(left_behind(before, snapshot()), "") << recovered.both();
    ASSERT_FALSE(HasFailure());
  }
  for (const std::string point : {"revert.begun:1", "revert.begun:2", "revert.detour:3",
                                  "revert.finish:1", "revert.finish:2", "revert.finish:4"}) {
    SCOPED_TRACE(point);
    must("apply", patch());
    const Snapshot patched = snapshot();
    run("QPATCH_FAULT", point, "revert");
    EXPECT_EQ(left_behind(patched, snapshot()), "");
    EXPECT_EQ(victim_->ask("1"), new_answer);
    EXPECT_EQ(images(), 4U);
    run("QPATCH_FAULT_KILL", point, "revert");
    EXPECT_EQ(on_victim("list", "").exit_code, 9);
    const CommandResult recovered = must("recover", "");
    EXPECT_EQ(victim_->ask("1"), old_answer);
    EXPECT_EQ(left_behind(before, snapshot()), "") << recovered.both();
    ASSERT_FALSE(HasFailure());
  }
  EXPECT_EQ(victim_->finish(), 0);
}

// Claim: what a run that was killed between two modules left is undone as a whole by the next apply
// or revert; a revert then takes out what an earlier run had applied as well.
TEST_F(Modules, that_an_interrupted_run_left_are_undone_first) {
  make_patch();
  ASSERT_FALSE(HasFatalFailure());
  start({});
  const Snapshot before = snapshot();
  const auto kill_apply = [&](const char* point) {
    setenv("QPATCH_FAULT_KILL", point, 1);
    EXPECT_NE(on_victim("apply", patch()).exit_code, 0) << point << " was not reached";
    unsetenv("QPATCH_FAULT_KILL");
    EXPECT_TRUE(names(on_victim("list", "").both(), "INTERRUPTED"));
    EXPECT_EQ(on_victim("check", patch()).exit_code, 9);
  };
  for (const char* point : {"stage.mapped:2", "commit.finish:2"}) {
    SCOPED_TRACE(point);
    kill_apply(point);
    const CommandResult applied = must("apply", patch());
    EXPECT_NE(applied.err.find("was undone first"), std::string::npos) << applied.both();
    EXPECT_EQ(victim_->ask("1"), std::string(kNew) + "0");
    EXPECT_EQ(images(), 2U);
    must("revert", kCve);
    EXPECT_EQ(left_behind(before, snapshot()), "");
  }
  must("apply", patch());
  victim_->ask(open_far());
  kill_apply("commit.begun");
  must("revert", kCve);
  EXPECT_EQ(victim_->ask("1"), std::string(kOld) + "3");
  EXPECT_EQ(images(), 0U);
  EXPECT_TRUE(names(must("recover", "").both(), "nothing to recover"));
}

}  // namespace
}  // namespace qp::live
