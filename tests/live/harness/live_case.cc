// What all live tests have in common: build a victim, run it, run qpatch on it, and look hard at
// what is left of the victim afterwards.
//
// qpatch is a black box here, known by its command line, its exit codes and its JSON. The tests use
// none of its modules, so that a wrong idea that two modules share can't hide: what counts is what
// the victim answers and what the kernel shows of it.

#include "harness/live_case.h"

#include <nlohmann/json.hpp>

namespace qp::live {
namespace fs = std::filesystem;
using nlohmann::json;

namespace {

// "functions" holds names, or objects with a name.
std::vector<std::string> function_names(const json& functions) {
  std::vector<std::string> names;
  for (const json& f : functions) {
    names.push_back(f.is_string() ? f.get<std::string>() : f.at("name").get<std::string>());
  }
  return names;
}

std::string as_text(const json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump();
}

}  // namespace

void LiveCase::SetUp() {
  const testing::TestInfo* info = testing::UnitTest::GetInstance()->current_test_info();
  std::string name = std::string(info->test_suite_name()) + "." + info->name();
  for (char& c : name) {
    c = c == '/' ? '.' : c;
  }
  dir_ = std::make_unique<Workdir>(name);
  workshop_ = std::make_unique<Workshop>(*dir_, what(), how());
}

void LiveCase::TearDown() {
  victim_.reset();
  if (HasFailure() && dir_ != nullptr) {
    dir_->keep();
    const testing::TestInfo* info = testing::UnitTest::GetInstance()->current_test_info();
    std::cout << "claim:  " << what().claim << "\nkept:   " << dir_->path().string()
              << "\nrepeat: " << fs::read_symlink("/proc/self/exe").string()
              << " --gtest_filter=" << info->test_suite_name() << "." << info->name() << "\n"
              << dir_->transcript();
  }
}

void LiveCase::prepare() {
  target_ = workshop_->build_target();
  if (!what().library) {
    start_victim();
  }
}

fs::path LiveCase::build_patch() {
  return build_patch(workshop_->diff(), "fix.qp");
}

fs::path LiveCase::build_patch(const fs::path& diff, const std::string& name,
                               const std::vector<std::string>& more) {
  const auto sources = tree_state(workshop_->source_tree());
  const auto objects = tree_state(workshop_->build_tree());
  const fs::path patch = dir_->path() / name;
  std::vector<std::string> arguments = workshop_->build_arguments(target_, patch);
  arguments[4] = diff;
  arguments.insert(arguments.end(), more.begin(), more.end());
  const CommandResult result = dir_->qpatch(arguments, workshop_->source_tree());
  EXPECT_EQ(result.exit_code, 0) << "qpatch build:\n" << result.both();
  EXPECT_TRUE(tree_state(workshop_->source_tree()) == sources) << "the source tree was written to";
  EXPECT_TRUE(tree_state(workshop_->build_tree()) == objects) << "the build tree was written to";
  return patch;
}

CommandResult LiveCase::on_victim(const std::string& verb, const std::string& what,
                                  const std::vector<std::string>& more) {
  std::vector<std::string> arguments = {verb};
  if (!what.empty()) {
    arguments.push_back(what);
  }
  arguments.emplace_back("--pid");
  arguments.push_back(std::to_string(victim_->pid()));
  arguments.insert(arguments.end(), more.begin(), more.end());
  return dir_->qpatch(arguments);
}

CommandResult LiveCase::must(const std::string& verb, const std::string& what,
                             const std::vector<std::string>& more) {
  CommandResult result = on_victim(verb, what, more);
  EXPECT_EQ(result.exit_code, 0) << "qpatch " << verb << ":\n" << result.both();
  return result;
}

std::vector<Listed> LiveCase::listed() {
  const CommandResult result = must("list", "", {"--json"});
  std::vector<Listed> patches;
  try {
    const json answer = json::parse(result.out);
    for (const json& process : answer.at("processes")) {
      EXPECT_EQ(process.at("pid").get<pid_t>(), victim_->pid());
      for (const json& patch : process.at("patches")) {
        patches.push_back({patch.at("id").get<std::string>(), function_names(patch.at("functions")),
                           as_text(patch.at("applied_at"))});
      }
    }
  } catch (const json::exception& e) {
    ADD_FAILURE() << "qpatch list --json: " << e.what() << "\n" << result.both();
  }
  return patches;
}

Listed LiveCase::only_listed() {
  const std::vector<Listed> patches = listed();
  EXPECT_EQ(patches.size(), 1U) << "patches listed";
  return patches.empty() ? Listed{} : patches.front();
}

void LiveCase::expect_untouched(const Snapshot& before, const std::string& output_of_revert) {
  EXPECT_EQ(left_behind(before, snapshot(), names(output_of_revert, "kept")), "");
}

void LiveCase::expect_answers(Victim& who, std::string Probe::*expected, const std::string& when) {
  for (const Probe& probe : what().probes) {
    EXPECT_EQ(who.ask(probe.ask), probe.*expected) << "probe '" << probe.ask << "' " << when;
  }
}

std::vector<Instance> scenario(const fs::path& root, const std::string& name) {
  std::vector<Instance> chosen;
  for (Instance& instance : read_cases(root)) {
    if (instance.what.name == name) {
      chosen.push_back(std::move(instance));
    }
  }
  return chosen;
}

}  // namespace qp::live
