// Patches for several targets: which unit goes into which part.

#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/fd.h"
#include "base/subprocess.h"
#include "build/build.h"
#include "format/file.h"
#include "project.h"

namespace qp::build {
namespace {

constexpr const char* kHere =
    "__attribute__((noinline)) int here(int x) { return x * x + 1; }\n"
    "int around_here(int x) { return here(x * 11) ^ here(x - 13); }\n";
constexpr const char* kHereFixed =
    "__attribute__((noinline)) int here(int x) { return x * x + 5; }\n"
    "int around_here(int x) { return here(x * 11) ^ here(x - 13); }\n";
constexpr const char* kThere =
    "__attribute__((noinline)) int there(int x) { return x * 9 - (x >> 3); }\n"
    "int around_there(int x) { return there(x + 17) * there(x | 8); }\n";
constexpr const char* kThereFixed =
    "__attribute__((noinline)) int there(int x) { return x * 9 - (x >> 7); }\n"
    "int around_there(int x) { return there(x + 17) * there(x | 8); }\n";
#define QP_HIDDEN "__attribute__((visibility(\"hidden\"))) "
constexpr const char* kBoth = QP_HIDDEN "int twice(int x) { return x * 2; }\n" QP_HIDDEN
                                        "int more(int x) { return x * 9; }\n";
constexpr const char* kBothFixed = QP_HIDDEN "int twice(int x) { return x * 3; }\n" QP_HIDDEN
                                             "int more(int x) { return x * 9; }\n";

// An executable and a library. Both hold both.c; each has a unit of its own called unit.c.
class Parts : public testing::Test {
 protected:
  Parts()
      : project_(
            {{"main.c",
              "int here(int); int there(int); int twice(int);\n"
              "int main(int n, char** v) { (void)v; return here(n) + there(n) + twice(n); }\n"},
             {"a/unit.c", kHere},
             {"b/unit.c", kThere},
             {"both.c", kBoth}}) {
    std::filesystem::create_directories(root() / "build");
    compile("main.c", "main.o");
    compile("a/unit.c", "a.o");
    compile("b/unit.c", "b.o");
    compile("both.c", "both.o");
    link("libthere.so", {"b.o", "both.o"}, {"-shared"});
    link("prog", {"main.o", "a.o", "both.o"}, {"-L.", "-lthere", "-Wl,-rpath,."});
  }
  std::filesystem::path root() const { return project_.root(); }
  void must(const std::vector<std::string>& command) const {
    RunOptions options;
    options.directory = root() / "build";
    const RunResult result = run(command, options);
    ASSERT_EQ(result.exit_code, 0) << result.err;
  }
  void compile(const std::string& file, const std::string& object) {
    const std::vector<std::string> command = {"gcc",        "-O2", "-fPIC", "-c",
                                              "../" + file, "-o",  object};
    must(command);
    entries_.push_back({{"directory", (root() / "build").string()},
                        {"file", "../" + file},
                        {"arguments", command}});
  }
  void link(const std::string& out, const std::vector<std::string>& objects,
            const std::vector<std::string>& options) {
    std::vector<std::string> command = {"gcc", "-Wl,--build-id", "-o", out};
    command.insert(command.end(), objects.begin(), objects.end());
    command.insert(command.end(), options.begin(), options.end());
    must(command);
  }
  Result build(const std::map<std::string, std::string>& changed, Report& report) {
    Request request;
    request.compdb = root() / "build/compile_commands.json";
    write_file(request.compdb, as_bytes(entries_.dump()));
    request.patches = {project_.diff(changed)};
    request.targets = {root() / "build/prog", root() / "build/libthere.so"};
    request.jobs = 2;
    return qp::build::build(request, report);
  }
  // "prog: here twice; libthere.so: there"
  std::string parts_for(const std::map<std::string, std::string>& changed) {
    Report report;
    const Result result = build(changed, report);
    std::string out;
    for (const Refusal& r : report.refusals()) {
      out += r.id + ": " + r.where + " ";
    }
    if (result.patch) {
      for (const format::Patch& part : result.patch->parts) {
        out += (out.empty() ? "" : "; ") + part.meta.target_name + ":";
        std::vector<std::string> names;
        for (const format::Replaced& r : part.replaced) {
          names.push_back(r.name);
        }
        std::sort(names.begin(), names.end());
        for (const std::string& name : names) {
          out += " " + name;
        }
      }
    }
    return out;
  }

  Project project_;
  nlohmann::json entries_ = nlohmann::json::array();
};

// Claim: a unit goes into the part of each target that holds it, and a unit of the same file name in
// another directory goes where it is.
TEST_F(Parts, EachUnitGoesWhereItIs) {
  EXPECT_EQ(
      parts_for({{"a/unit.c", kHereFixed}, {"b/unit.c", kThereFixed}, {"both.c", kBothFixed}}),
      "prog: here twice; libthere.so: there twice");
  EXPECT_EQ(parts_for({{"a/unit.c", kHereFixed}}), "prog: here");  // a patch for one target
}

// Claim: the same without names.
TEST_F(Parts, StrippedTargets) {
  must({"strip", "prog", "libthere.so"});
  EXPECT_EQ(parts_for({{"a/unit.c", kHereFixed}, {"b/unit.c", kThereFixed}}),
            "prog: here; libthere.so: there");
}

// Claim: a target that holds the unit as another compilation is no target to leave out.
TEST_F(Parts, OtherCompilationIsRefused) {
  must({"gcc", "-O0", "-fPIC", "-c", "../both.c", "-o", "slow.o"});
  link("libthere.so", {"b.o", "slow.o"}, {"-shared"});
  EXPECT_EQ(parts_for({{"both.c", kBothFixed}}), "code-differs: twice ");
}

// Claim: nor is one that has lost the names of what it keeps to itself.
TEST_F(Parts, OtherCompilationWithoutLocalNamesIsRefused) {
  must({"gcc", "-O0", "-fPIC", "-c", "../both.c", "-o", "slow.o"});
  link("libthere.so", {"b.o", "slow.o"}, {"-shared"});
  must({"strip", "-x", "libthere.so"});
  EXPECT_EQ(parts_for({{"both.c", kBothFixed}}), "function-missing: twice ");
}

// Claim: nor is one that has a variable of the unit, although it has none of the changed functions.
TEST_F(Parts, ATargetWithTheUnitsVariableIsRefused) {
  project_.write("both.c", "int kept = 3;\n" + std::string(kBoth));
  must({"gcc", "-O2", "-fPIC", "-c", "../both.c", "-o", "both.o"});
  link("prog", {"main.o", "a.o", "both.o"}, {"-L.", "-lthere", "-Wl,-rpath,."});
  write_file(root() / "build/older.c", as_bytes("int kept = 3;\n"));
  must({"gcc", "-O2", "-fPIC", "-c", "older.c", "-o", "older.o"});
  link("libthere.so", {"b.o", "older.o"}, {"-shared"});
  EXPECT_EQ(parts_for({{"both.c", "int kept = 3;\n" + std::string(kBothFixed)}}),
            "function-missing: twice ");
}

// Claim: a global that two parts define anew is refused: a library could mean either.
TEST_F(Parts, NewGlobalOfTwoIsRefused) {
  const std::string both = "int fresh(int x) { return x * 8; }\nint fresh(int);\n";
  std::string text = kBothFixed;
  text.replace(text.find("x * 3"), 5, "fresh(x) + fresh(x + 1)");
  EXPECT_EQ(parts_for({{"both.c", "__attribute__((noinline)) " + both + text}}),
            "definition-conflict: fresh ");
}

}  // namespace
}  // namespace qp::build
