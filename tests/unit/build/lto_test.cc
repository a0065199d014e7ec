// Programs with link-time optimisation: the link is found, repeated, and taken apart.

#include "build/lto.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/subprocess.h"
#include "build/build.h"
#include "project.h"

namespace qp::build {
namespace {

namespace fs = std::filesystem;
using Files = std::initializer_list<std::pair<const char*, const char*>>;

const char* const kMain =
    "int f(int), g(int);\nint main(int argc, char** argv) { (void)argv; return f(argc) + g(argc); "
    "}\n";
const char* const kF =
    "static int calls;\n__attribute__((noinline)) static int work(int x) { calls += x; return "
    "calls; }\n"
    "__attribute__((noinline)) int f(int x) { return work(x) * 3; }\n";
const char* const kG =
    "static int calls;\n__attribute__((noinline)) static int work(int x) { calls -= x; return "
    "calls; }\n"
    "__attribute__((noinline)) int g(int x) { return work(x) * 5; }\n";

// main.c, f.c and g.c, compiled with -flto and linked with `link_options`.
class Optimised {
 public:
  explicit Optimised(const std::vector<std::string>& link_options = {})
      : project_{{"main.c", kMain}, {"f.c", kF}, {"g.c", kG}} {
    link_ = {"gcc", "-O2", "-flto", "-Wl,--build-id"};
    link_.insert(link_.end(), link_options.begin(), link_options.end());
    auto entries = nlohmann::json::array();
    for (const char* name : {"main", "f", "g"}) {
      std::string object = std::string(name) + ".o";
      std::vector<std::string> command = {
          "gcc", "-O2", "-g", "-flto", "-c", "../" + std::string(name) + ".c", "-o", object};
      must_run(command);
      entries.push_back(
          {{"directory", build().string()}, {"file", command[5]}, {"arguments", command}});
      link_.push_back(object);
    }
    link_.insert(link_.end(), {"-o", "prog"});
    must_run(link_);
    write_file(build() / "compile_commands.json", as_bytes(entries.dump()));
  }

  fs::path build() const { return project_.root() / "build"; }
  Project& project() { return project_; }
  void must_run(const std::vector<std::string>& command) {
    RunOptions options;
    options.directory = build();
    RunResult result = run(command, options);
    EXPECT_EQ(result.exit_code, 0) << result.err;
  }
  std::string link_line() const {
    std::string line;
    for (const std::string& word : link_) {
      line += (line.empty() ? "" : " ") + word;
    }
    return line + "\n";
  }
  // As CMake's Makefiles do.
  void record_link() {
    fs::create_directories(build() / "CMakeFiles" / "prog.dir");
    write_file(build() / "CMakeFiles" / "prog.dir" / "link.txt", as_bytes(link_line()));
  }
  Result build_patch(Report& report, const fs::path& link_command = {}) {
    std::string patched = kF;
    patched.replace(patched.find("calls += x"), 10, "calls += x * 7");
    Request request;
    request.compdb = build();
    request.patches = {project_.diff({{"f.c", patched}})};
    request.targets = {build() / "prog"};
    request.link_command = link_command;
    request.jobs = 2;
    std::string before = project_.fingerprint();
    Result result = qp::build::build(request, report);
    EXPECT_EQ(project_.fingerprint(), before);
    return result;
  }

 private:
  Project project_;
  std::vector<std::string> link_;
};

void expect_work_of_f(const Result& result, const Report& report) {
  for (const Refusal& r : report.refusals()) {
    ADD_FAILURE() << r.id << ": " << r.where << ": " << r.detail;
  }
  ASSERT_TRUE(result.patch);
  ASSERT_EQ(result.patch->parts[0].replaced.size(), 1u);
  EXPECT_EQ(result.patch->parts[0].replaced[0].name.substr(0, 4), "work");
}

// Claim: the link command is found where CMake keeps it, and one function is replaced; nothing is
// written to the user's trees.
TEST(Lto, RecordedByCMake) {
  Optimised program;
  program.record_link();
  Report report;
  expect_work_of_f(program.build_patch(report), report);
}

// Claim: a wrapped line, as Ninja tells it, is taken when it is given.
TEST(Lto, GivenAsNinjaTellsIt) {
  Optimised program;
  fs::path file = program.project().root() / "line";
  write_file(file,
             as_bytes(": && " + program.link_line().substr(0, program.link_line().size() - 1) +
                      " && :\n"));
  Report report;
  expect_work_of_f(program.build_patch(report, file), report);
}

// Claim: a program that is cut into partitions is taken together; namesakes in other partitions stay
// as they are.
TEST(Lto, Partitions) {
  for (const char* how : {"-flto-partition=1to1", "-flto-partition=max"}) {
    Optimised program({how});
    program.record_link();
    Report report;
    expect_work_of_f(program.build_patch(report), report);
  }
}

std::string refusal(Optimised& program, const fs::path& link_command = {}) {
  Report report;
  try {
    program.build_patch(report, link_command);
  } catch (const Refused& refused) {
    return refused.findings().front().id + ": " + refused.findings().front().detail;
  }
  return "";
}

// Claim: without a record of the link, and with one of another link, the refusal says what to do.
TEST(Lto, NoRecord) {
  Optimised program;
  EXPECT_NE(refusal(program).find("--link-command"), std::string::npos);
  fs::path file = program.project().root() / "line";
  write_file(file, as_bytes("gcc -flto elsewhere.o -o prog\n"));
  EXPECT_NE(refusal(program, file).find("does not name"), std::string::npos);
}

// Claim: a touched object that may be a member of an archive is refused, and not left out.
TEST(Lto, InAnArchive) {
  Optimised program;
  program.must_run({"gcc-ar", "rcs", "libf.a", "f.o"});
  LinkCommand link{{"gcc", "-flto", "main.o", "libf.a", "-o", "prog"}, program.build()};
  EXPECT_THROW(takes_part(link, program.build() / "f.o"), Error);
  EXPECT_TRUE(takes_part(link, program.build() / "main.o"));
  EXPECT_FALSE(takes_part(link, program.build() / "g.o"));
}

}  // namespace
}  // namespace qp::build
