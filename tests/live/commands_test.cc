// What scripts and people may rely on from the first version of the command line (docs/cli.md),
// beside build, apply and revert themselves: the patch file as an ELF file that everybody's tools
// read, equal bytes for equal input, the JSON of `info`, the map with its file scopes, and exit
// codes of misuse.

#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>

#include "harness/live_case.h"

namespace qp::live {
namespace {
namespace fs = std::filesystem;
using nlohmann::json;

class SameNames : public LiveCase {};
class StrippedNames : public LiveCase {};

Instance first_stripped(const std::vector<Instance>& instances) {
  return *std::find_if(instances.begin(), instances.end(),
                       [](const Instance& instance) { return instance.how.stripped; });
}
class TwoDiffs : public LiveCase {};

// Claim: the same inputs give the same bytes, whether the target is named by its file or by a PID.
TEST_P(SameNames, give_equal_bytes) {
  prepare();
  const std::string once = read_text(build_patch());
  const fs::path again = dir().path() / "again.qp";
  const fs::path by_pid = dir().path() / "by_pid.qp";
  dir().qpatch(workshop().build_arguments(target(), again), workshop().source_tree());
  const CommandResult result = dir().qpatch(
      workshop().build_arguments(std::to_string(victim().pid()), by_pid), workshop().source_tree());
  EXPECT_EQ(result.exit_code, 0) << result.both();
  EXPECT_TRUE(!once.empty() && read_text(again) == once);
  EXPECT_TRUE(read_text(by_pid) == once);
}

// Claim: binutils read the patch file, and find the sections that the design promises.
TEST_P(SameNames, make_a_file_that_binutils_read) {
  prepare();
  const std::string patch = build_patch();
  const CommandResult sections = dir().run({"readelf", "-SW", patch});
  for (const char* name :
       {".qpatch.symtab.dst", ".qpatch.strtab.dst", ".qpatch.symtab.src", ".qpatch.strtab.src",
        ".qpatch.diffdata", ".qpatch.old", ".qpatch.meta"}) {
    EXPECT_NE(sections.out.find(name), std::string::npos) << name;
  }
  for (const std::vector<std::string>& command :
       std::vector<std::vector<std::string>>{{"readelf", "-SW", patch},
                                             {"readelf", "-sW", patch},
                                             {"readelf", "-rW", patch},
                                             {"objdump", "-dr", patch}}) {
    const CommandResult result = dir().run(command);
    EXPECT_EQ(result.exit_code, 0) << result.both();
    EXPECT_EQ(result.err, "") << command[0] << " " << command[1];
  }
  EXPECT_NE(dir().run({"objdump", "-dr", patch}).out.find("<foo>"), std::string::npos);
}

// Claim: `info --json` names each function with its file and kind.
TEST_P(SameNames, are_told_apart_by_info) {
  prepare();
  const std::string patch = build_patch();
  const CommandResult result = dir().qpatch({"info", patch, "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.both();
  bool found = false;
  const json info = json::parse(result.out);
  for (const json& function : info.at("functions")) {
    EXPECT_TRUE(function.contains("kind"));
    found = found || (function.at("name") == "foo" &&
                      fs::path(function.at("file").get<std::string>()).filename() == "beta.c");
  }
  EXPECT_TRUE(found) << result.out;
  EXPECT_EQ(dir().qpatch({"info", patch}).exit_code, 0);
}

// Claim: `map` shows both functions of one name, each with its file.
TEST_P(SameNames, are_told_apart_by_map) {
  prepare();
  const CommandResult result = dir().qpatch({"map", target()});
  ASSERT_EQ(result.exit_code, 0) << result.both();
  for (const char* file : {"alpha.c", "beta.c"}) {
    bool found = false;
    std::istringstream lines(result.out);
    for (std::string line; std::getline(lines, line);) {
      found = found || (names(line, "foo") && line.find(file) != std::string::npos);
    }
    EXPECT_TRUE(found) << "foo of " << file << " in:\n" << result.out;
  }
}

// Claim: of a stripped target `map` shows what the proof of a patch found, and says where each name is
// from; a patch in the process is enough.
TEST_P(StrippedNames, come_from_the_proof) {
  prepare();
  const std::string patch = build_patch();
  const auto line_of = [&](const std::string& name, const std::string& out) {
    std::istringstream lines(out);
    for (std::string line; std::getline(lines, line);) {
      if (names(line, name)) {
        return line;
      }
    }
    return std::string();
  };
  EXPECT_EQ(line_of("foo", dir().qpatch({"map", target()}).out), "");
  const CommandResult shown = dir().qpatch({"map", target(), "--patch", patch});
  EXPECT_EQ(shown.exit_code, 0) << shown.both();
  EXPECT_TRUE(names(line_of("foo", shown.out), "proof")) << shown.out;
  EXPECT_TRUE(names(line_of("var", shown.out), "proof")) << shown.out;
  EXPECT_TRUE(names(line_of("main", shown.out), "proof")) << shown.out;

  must("apply", patch);
  const CommandResult live = dir().qpatch({"map", std::to_string(victim().pid()), "--json"});
  ASSERT_EQ(live.exit_code, 0) << live.both();
  bool found = false;
  const json map = json::parse(live.out);
  for (const json& symbol : map.at("symbols")) {
    found = found || (symbol.at("name") == "foo" && symbol.at("source") == "proof" &&
                      symbol.at("file") == "beta.c");
  }
  EXPECT_TRUE(found) << live.out;
  must("revert", only_listed().id);
}

// Claim: misuse exits with 2 and says what is wrong; help exits with 0.
TEST_P(SameNames, usage_errors_exit_with_2) {
  const std::vector<std::vector<std::string>> misuses = {
      {},
      {"aply"},
      {"build"},
      {"apply"},
      {"apply", "x.qp", "--pid", "none"},
      {"apply", "x.qp", "--pid", "1", "--timeout", "soon"},
      {"list", "--no-such-option"}};
  for (const std::vector<std::string>& misuse : misuses) {
    const CommandResult result = dir().qpatch(misuse);
    EXPECT_EQ(result.exit_code, 2) << testing::PrintToString(misuse) << "\n" << result.both();
    EXPECT_FALSE(result.err.empty()) << testing::PrintToString(misuse);
  }
  EXPECT_TRUE(names(dir().qpatch({"aply"}).err, "apply")) << "did you mean";
  EXPECT_EQ(dir().qpatch({"--help"}).exit_code, 0);
  EXPECT_EQ(dir().qpatch({"apply", "--help"}).exit_code, 0);
}

// Claim: --patch repeats: two diffs become one patch.
TEST_P(TwoDiffs, become_one_patch) {
  prepare();
  const fs::path patch = dir().path() / "both.qp";
  std::vector<std::string> arguments = workshop().build_arguments(target(), patch);
  arguments.emplace_back("--patch");
  arguments.push_back(dir().path() / "second.patch");
  const CommandResult result = dir().qpatch(arguments, workshop().source_tree());
  ASSERT_EQ(result.exit_code, 0) << result.both();
  must("apply", patch);
  EXPECT_EQ(victim().ask("1") + " " + victim().ask("2"), "12 26");
  EXPECT_EQ(only_listed().functions.size(), 2U);
}

// Claim: --exe reaches every process of the program, and each is reverted by --exe as well.
TEST_P(TwoDiffs, reach_every_process_of_the_program) {
  prepare();
  const std::string patch = build_patch();
  Victim second(target());
  const Snapshot before = snapshot();
  const CommandResult applied = dir().qpatch({"apply", patch, "--exe", target()});
  EXPECT_EQ(applied.exit_code, 0) << applied.both();
  EXPECT_EQ(victim().ask("1") + second.ask("1"), "1212");
  const CommandResult reverted = dir().qpatch({"revert", only_listed().id, "--exe", target()});
  EXPECT_EQ(reverted.exit_code, 0) << reverted.both();
  EXPECT_EQ(victim().ask("1") + second.ask("1"), "1111");
  expect_untouched(before, reverted.both());
}

// Claim: a CVE id names the patch as well as its own id does.
TEST_P(TwoDiffs, are_named_by_their_cve) {
  prepare();
  const fs::path patch = dir().path() / "cve.qp";
  std::vector<std::string> arguments = workshop().build_arguments(target(), patch);
  arguments.emplace_back("--cve");
  arguments.emplace_back("CVE-2026-1234");
  const CommandResult result = dir().qpatch(arguments, workshop().source_tree());
  ASSERT_EQ(result.exit_code, 0) << result.both();
  must("apply", patch);
  EXPECT_TRUE(names(must("list", "").out, "CVE-2026-1234"));
  must("revert", "CVE-2026-1234");
  EXPECT_TRUE(listed().empty());
}

INSTANTIATE_TEST_SUITE_P(Command, SameNames,
                         testing::Values(scenario(QP_CASES, "same_named_statics").front()),
                         instance_name);
INSTANTIATE_TEST_SUITE_P(Command, StrippedNames,
                         testing::Values(first_stripped(scenario(QP_CASES, "same_named_statics"))),
                         instance_name);
INSTANTIATE_TEST_SUITE_P(Command, TwoDiffs,
                         testing::Values(scenario(QP_SCENARIOS, "two_patches").front()),
                         instance_name);

}  // namespace
}  // namespace qp::live
