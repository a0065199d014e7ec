// A project for tests of the whole of build(): sources, a compile database, and the program that they
// make.
#pragma once

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/subprocess.h"
#include "build/build.h"
#include "elf/file.h"
#include "format/file.h"
#include "project.h"

namespace qp::build {

// A project whose target is linked from what its database compiles.
class Program {
 public:
  Program(std::initializer_list<std::pair<const char*, const char*>> files,
          std::vector<std::string> link_options = {"-Wl,--build-id"},
          const std::vector<std::string>& options = {})
      : project_(files) {
    std::vector<std::string> link = {"gcc", "-o", "prog"};
    for (const auto& [name, content] : files) {
      if (std::filesystem::path(name).extension() != ".c") {
        continue;
      }
      std::string object = std::filesystem::path(name).replace_extension(".o").string();
      std::replace(object.begin(), object.end(), '/', '_');
      add_entry(name, object, options);
      if (!std::string_view(name).starts_with("other")) {
        compile(name, object, options);
        link.push_back(object);
      }
    }
    // Small functions need the padding before the next one for their detour, and the linker puts
    // .fini directly behind the last.
    project_.write("last.c", "int last_function(void) { return 7; }\n");
    compile("last.c", "last.o", {});
    link.push_back("last.o");
    link.insert(link.end(), link_options.begin(), link_options.end());
    RunResult result = run(link, in_build());
    EXPECT_EQ(result.exit_code, 0) << result.err;
  }

  void add_entry(const std::string& file, const std::string& object,
                 const std::vector<std::string>& options) {
    entries_.push_back({{"directory", (project_.root() / "build").string()},
                        {"file", "../" + file},
                        {"arguments", command(file, object, options)}});
  }
  // An entry for `file` whose command does not name it.
  void add_misnamed_entry(const std::string& file) {
    entries_.push_back({{"directory", (project_.root() / "build").string()},
                        {"file", "../" + file},
                        {"arguments", {"gcc", "-c", "renamed.c", "-o", "renamed.o"}}});
  }
  void add_shell_entry(const std::string& file, const std::string& command_line) {
    entries_.push_back({{"directory", (project_.root() / "build").string()},
                        {"file", "../" + file},
                        {"command", command_line}});
  }
  // Takes the names away. address() still knows them.
  void strip() {
    RunResult result = run({"sh", "-c", "cp prog unstripped && strip prog"}, in_build());
    EXPECT_EQ(result.exit_code, 0) << result.err;
  }
  Project& project() { return project_; }
  std::set<std::string> waivers;  // of the request; the Report that build() fills has its own
  std::filesystem::path target() const { return project_.root() / "build" / "prog"; }

  Result build(const std::map<std::string, std::string>& changed, Report& report) {
    Request request;
    request.compdb = project_.root() / "build" / "compile_commands.json";
    write_file(request.compdb, as_bytes(entries_.dump()));
    request.patches = {project_.diff(changed)};
    request.targets = {target()};
    request.waivers = waivers;
    request.jobs = 2;
    std::string before = project_.fingerprint();
    Result result = qp::build::build(request, report);
    EXPECT_EQ(project_.fingerprint(), before);
    return result;
  }
  // Demands a patch.
  format::Patch patch(const std::map<std::string, std::string>& changed) {
    Report report;
    Result result = build(changed, report);
    for (const Refusal& r : report.refusals()) {
      ADD_FAILURE() << r.id << ": " << r.where << ": " << r.detail;
    }
    if (!result.patch) {
      throw std::runtime_error("no patch");
    }
    // What the writer takes is consistent.
    return format::read_patch(format::write_patch_file(*result.patch), "test");
  }
  // The id of the first refusal, found or thrown.
  std::string refusal(const std::map<std::string, std::string>& changed) {
    Report report;
    try {
      build(changed, report);
    } catch (const Refused& refused) {
      return refused.findings().front().id;
    }
    return report.clean() ? "" : report.refusals().front().id;
  }
  LinkAddr address(const std::string& name) const {
    const std::filesystem::path whole = project_.root() / "build" / "unstripped";
    elf::File file = elf::File::open(std::filesystem::exists(whole) ? whole : target());
    for (const elf::Symbol& symbol : file.symbols()) {
      if (symbol.name == name && symbol.defined()) {
        return LinkAddr(symbol.value);
      }
    }
    ADD_FAILURE() << "no " << name;
    return {};
  }

 private:
  RunOptions in_build() const {
    RunOptions options;
    options.directory = project_.root() / "build";
    return options;
  }
  static std::vector<std::string> command(const std::string& file, const std::string& object,
                                          const std::vector<std::string>& options) {
    std::vector<std::string> out = {"gcc", "-g", "-O2", "-I../include"};
    out.insert(out.end(), options.begin(), options.end());
    out.insert(out.end(), {"-c", "../" + file, "-o", object});
    return out;
  }
  void compile(const std::string& file, const std::string& object,
               const std::vector<std::string>& options) {
    RunResult result = run(command(file, object, options), in_build());
    EXPECT_EQ(result.exit_code, 0) << result.err;
  }

  Project project_;
  nlohmann::json entries_ = nlohmann::json::array();
};

}  // namespace qp::build
