// Refusals of `qpatch diff`, which has only two objects and no target: what an object must bring.

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <iostream>
#include <memory>

#include "harness/workdir.h"

namespace qp::live {
namespace {

class Objects : public testing::Test {
 protected:
  void SetUp() override {
    dir_ = std::make_unique<Workdir>(std::string("Objects.") +
                                     testing::UnitTest::GetInstance()->current_test_info()->name());
  }
  void TearDown() override {
    if (HasFailure()) {
      dir_->keep();
      std::cout << "kept: " << dir_->path().string() << "\n" << dir_->transcript();
    }
  }
  CommandResult diff(const std::string& original, const std::string& patched,
                     const std::vector<std::string>& flags) {
    for (const auto& [name, text] : {std::pair{"a.c", original}, std::pair{"b.c", patched}}) {
      dir_->write_file(name, text);
      std::vector<std::string> command = {"gcc", "-O2", "-g", "-c", name};
      command.insert(command.end(), flags.begin(), flags.end());
      dir_->must_run(command);
    }
    return dir_->qpatch({"diff", "a.o", "b.o"});
  }

  std::unique_ptr<Workdir> dir_;
};

constexpr const char* kTwoFunctions =
    "__attribute__((noinline)) static int one(int x) { return x + 1; }\n"
    "int two(int x) { return one(x) * 2; }\n"
    "int three(int x) { return one(x) * 3; }\n";

std::string with(std::string text, const std::string& from, const std::string& to) {
  return text.replace(text.find(from), from.size(), to);
}

// Claim: objects whose functions share a section, with calls that the assembler resolved, are compared
// function by function all the same.
TEST_F(Objects, without_function_sections_are_taken_apart) {
  const CommandResult result = diff(kTwoFunctions, with(kTwoFunctions, "+ 1", "+ 2"), {});
  EXPECT_EQ(result.exit_code, 0) << result.both();
  EXPECT_NE(result.out.find("changed  one "), std::string::npos) << result.both();
  EXPECT_EQ(result.out.find("changed  two "), std::string::npos) << result.both();
}

// Claim: the same objects with function sections are compared, and the changed function is named.
TEST_F(Objects, with_function_sections_are_compared) {
  const CommandResult result = diff(kTwoFunctions, with(kTwoFunctions, "+ 1", "+ 2"),
                                    {"-ffunction-sections", "-fdata-sections"});
  EXPECT_EQ(result.exit_code, 0) << result.both();
  EXPECT_TRUE(names(result.out, "one")) << result.both();
}

// Claim: the JSON tells for each changed unit the first differing instruction of both sides with its
// source line, and why each atom is included or bound.
TEST_F(Objects, differences_are_told_as_json) {
  diff(kTwoFunctions, with(kTwoFunctions, "* 2", "* 5"), {"-ffunction-sections"});
  const CommandResult result = dir_->qpatch({"diff", "a.o", "b.o", "--json"});
  EXPECT_EQ(result.exit_code, 0) << result.both();
  const nlohmann::json told = nlohmann::json::parse(result.out);
  int changed = 0;
  for (const auto& unit : told.at("units")) {
    if (unit.at("fate") != "changed") {
      continue;
    }
    ++changed;
    EXPECT_EQ(unit.at("name"), "two");
    const auto& difference = unit.at("first_difference");
    EXPECT_NE(difference.at("what").get<std::string>().find(" → "), std::string::npos);
    EXPECT_TRUE(difference.at("original_line").get<std::string>().ends_with("a.c:2"));
    EXPECT_TRUE(difference.at("patched_line").get<std::string>().ends_with("b.c:2"));
  }
  EXPECT_EQ(changed, 1) << result.out;
  EXPECT_EQ(told.at("included").at(0).at("why"), "changed");
  EXPECT_EQ(told.at("bound").at(0).at("name"), "one");
  EXPECT_FALSE(told.at("bound").at(0).at("why").get<std::string>().empty());
}

// Claim: an object against itself is no change: exit code 8.
TEST_F(Objects, that_are_equal_are_no_change) {
  const CommandResult result =
      diff(kTwoFunctions, kTwoFunctions, {"-ffunction-sections", "-fdata-sections"});
  EXPECT_EQ(result.exit_code, 8) << result.both();
  EXPECT_NE(result.both().find("no change"), std::string::npos) << result.both();
}

// Refusal: diff-unexplained
// Claim: a changed constant that no function of the unit reads is refused, not forgotten.
TEST_F(Objects, with_an_unread_changed_constant_are_refused) {
  const std::string text = std::string("const int version[] = {1, 2, 3, 4};\n") + kTwoFunctions;
  const CommandResult result =
      diff(text, with(text, "3, 4", "3, 5"), {"-ffunction-sections", "-fdata-sections"});
  EXPECT_EQ(result.exit_code, 1) << result.both();
  EXPECT_TRUE(names(result.both(), "diff-unexplained") || names(result.both(), "readonly-escapes"))
      << result.both();
  EXPECT_TRUE(names(result.both(), "version")) << result.both();
}

}  // namespace
}  // namespace qp::live
