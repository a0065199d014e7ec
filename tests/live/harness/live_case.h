// A case under test: its directory, its target, its running victim and the qpatch commands on it.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "harness/case.h"
#include "harness/snapshot.h"
#include "harness/victim.h"
#include "harness/workdir.h"
#include "harness/workshop.h"

namespace qp::live {

// What `qpatch list --json` says of one patch in one process.
struct Listed {
  std::string id;
  std::vector<std::string> functions;
  std::string applied_at;
};

// Base of all tests with a victim. A failed test keeps its directory and prints how to repeat it.
class LiveCase : public testing::TestWithParam<Instance> {
 protected:
  void SetUp() override;
  void TearDown() override;

  // Builds the target; starts it.
  void prepare();
  // `qpatch build` of the case's diff (or another) must succeed and leave the user's trees alone.
  std::filesystem::path build_patch();
  // `more`: arguments of `qpatch build`.
  std::filesystem::path build_patch(const std::filesystem::path& diff, const std::string& name,
                                    const std::vector<std::string>& more = {});
  // qpatch VERB WHAT --pid of the victim [more].
  CommandResult on_victim(const std::string& verb, const std::string& what,
                          const std::vector<std::string>& more = {});
  // The same, and demands exit code 0.
  CommandResult must(const std::string& verb, const std::string& what,
                     const std::vector<std::string>& more = {});
  // Patches in the victim; a failure if the JSON is not as promised.
  std::vector<Listed> listed();
  // The one that is applied; a failure if there is none or another too.
  Listed only_listed();
  // Nothing in the victim differs from `before`, and it is neither stopped nor traced.
  void expect_untouched(const Snapshot& before, const std::string& output_of_revert = "");
  // Asks every probe; compares with the answer that `expected` points to.
  void expect_answers(Victim& who, std::string Probe::*expected, const std::string& when);

  const Case& what() const { return GetParam().what; }
  const Configuration& how() const { return GetParam().how; }
  Workdir& dir() { return *dir_; }
  Workshop& workshop() { return *workshop_; }
  Victim& victim() { return *victim_; }
  const std::filesystem::path& target() const { return target_; }
  Snapshot snapshot() { return take_snapshot(victim_->pid()); }
  void end_victim() { victim_.reset(); }
  void start_victim() { start_victim(target_); }
  void start_victim(const std::filesystem::path& program) {
    victim_ = std::make_unique<Victim>(program);
  }

 private:
  std::unique_ptr<Workdir> dir_;
  std::unique_ptr<Workshop> workshop_;
  std::unique_ptr<Victim> victim_;
  std::filesystem::path target_;
};

// The instances of the case of this name below `root`.
std::vector<Instance> scenario(const std::filesystem::path& root, const std::string& name);

// Names the test after its instance: "simple_change_gcc_pie_O2".
inline std::string instance_name(const testing::TestParamInfo<Instance>& info) {
  return info.param.name();
}

}  // namespace qp::live
