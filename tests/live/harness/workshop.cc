// Makes of a case what a developer would have: a source tree, a build tree beside it with objects,
// dependency files and compile_commands.json, and a linked program.
//
// The compile database comes in the two forms that exist in the wild: "arguments" with absolute
// paths (CMake through Ninja, for PIE here) and "command" with relative ones (bear over make, for
// non-PIE). The commands write dependency files (-MD -MF), as all real build systems do; a tool
// that replays them carelessly overwrites the user's build tree, and the tests look whether it did.
//
// The oracle is the program that the patched source gives when it is built in the ordinary way.
// That it is compiled from a copy of the same tree by the same command is what makes "the patched
// process answers as the rebuilt program" a claim about qpatch and not about the test.

#include "harness/workshop.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

namespace qp::live {
namespace fs = std::filesystem;

namespace {

bool is_unit(const fs::path& file) {
  const std::string ext = file.extension();
  return ext == ".c" || ext == ".cc" || ext == ".S";
}

std::string compiler_for(const fs::path& unit, const std::string& c_compiler) {
  if (unit.extension() != ".cc") {
    return c_compiler;
  }
  return c_compiler == "gcc" ? "g++" : "clang++-14";
}

std::string object_name(const fs::path& unit) {
  std::string name = unit.string();
  std::replace(name.begin(), name.end(), '/', '_');
  return name + ".o";
}

}  // namespace

Workshop::Workshop(Workdir& dir, const Case& what, const Configuration& how)
    : dir_(dir), case_(what), how_(how) {
  fs::create_directories(build_tree());
  fs::copy(what.directory, source_tree(), fs::copy_options::recursive);
  fs::remove(source_tree() / "case.json");
  std::vector<fs::path> diffs;
  for (const auto& entry : fs::directory_iterator(source_tree())) {
    if (entry.path().extension() == ".patch") {
      diffs.push_back(entry.path());
    }
  }
  for (const fs::path& diff : diffs) {
    fs::rename(diff, dir_.path() / diff.filename());
  }
  if (!case_.library) {
    fs::copy(QP_PROTOCOL, source_tree() / "protocol.c");
  }
  for (const auto& entry : fs::recursive_directory_iterator(source_tree())) {
    if (entry.is_regular_file() && is_unit(entry.path())) {
      units_.push_back(fs::relative(entry.path(), source_tree()));
    }
  }
  std::sort(units_.begin(), units_.end());
}

std::vector<std::string> Workshop::compile_command(const fs::path& unit,
                                                   const fs::path& tree) const {
  const std::string object = object_name(unit);
  std::vector<std::string> command = {compiler_for(unit, how_.compiler), how_.optimise, "-g",
                                      how_.pie ? "-fPIE" : "-fno-pie", "-I" + tree.string()};
  if (case_.library) {
    command[3] = "-fPIC";
  }
  command.insert(command.end(), case_.flags.begin(), case_.flags.end());
  for (const char* word : {"-MD", "-MT"}) {
    command.emplace_back(word);
  }
  command.push_back(object);
  command.emplace_back("-MF");
  command.push_back(object + ".d");
  command.emplace_back("-o");
  command.push_back(object);
  command.emplace_back("-c");
  command.push_back(tree / unit);
  return command;
}

void Workshop::write_compdb() const {
  const fs::path tree = how_.pie ? source_tree() : fs::path("../src");
  nlohmann::json database = nlohmann::json::array();
  for (const fs::path& unit : units_) {
    nlohmann::json entry = {{"directory", build_tree().string()}, {"file", (tree / unit).string()}};
    const std::vector<std::string> command = compile_command(unit, tree);
    if (how_.pie) {
      entry["arguments"] = command;
      entry["output"] = object_name(unit);
    } else {
      std::string line;
      for (const std::string& word : command) {
        line += (line.empty() ? "" : " ") + word;
      }
      entry["command"] = line;
    }
    database.push_back(entry);
  }
  dir_.write_file("build/compile_commands.json", database.dump(2) + "\n");
}

fs::path Workshop::compile(const fs::path& tree, const fs::path& into) {
  fs::create_directories(into);
  const bool any_cc = std::any_of(units_.begin(), units_.end(),
                                  [](const fs::path& unit) { return unit.extension() == ".cc"; });
  const fs::path program = into / (case_.library ? "libvictim.so" : "victim");
  std::vector<std::string> link = {any_cc ? compiler_for("x.cc", how_.compiler) : how_.compiler};
  link.emplace_back(case_.library    ? "-shared"
                    : how_.is_static ? "-static"
                    : how_.pie       ? "-pie"
                                     : "-no-pie");
  link.emplace_back("-Wl,--build-id=sha1");
  link.insert(link.end(), case_.before_link.begin(), case_.before_link.end());
  const fs::path shown = how_.pie ? tree : fs::relative(tree, into);
  for (const fs::path& unit : units_) {
    dir_.must_run(compile_command(unit, shown), into);
    link.push_back(object_name(unit));
  }
  link.emplace_back("-o");
  link.push_back(program.filename());
  link.insert(link.end(), case_.link_flags.begin(), case_.link_flags.end());
  dir_.must_run(link, into);
  // As CMake does, for builds with -flto: compile_commands.json knows compilations only.
  std::string recorded;
  for (const std::string& word : link) {
    recorded += (recorded.empty() ? "" : " ") + word;
  }
  std::ofstream(into / "link.txt") << recorded << "\n";
  if (!case_.finish.empty()) {
    std::vector<std::string> finish = case_.finish;
    finish.push_back(program);
    dir_.must_run(finish, into);
  }
  if (how_.stripped) {
    dir_.must_run({"strip", program}, into);
  }
  return program;
}

fs::path Workshop::build_target() {
  write_compdb();
  if (case_.drift.empty()) {
    return compile(source_tree(), build_tree());
  }
  const fs::path drifted = dir_.path() / "drifted";
  fs::copy(source_tree(), drifted, fs::copy_options::recursive);
  dir_.must_run({"patch", "-s", "-p1", "-i", dir_.path() / case_.drift}, drifted);
  return compile(drifted, build_tree());
}

fs::path Workshop::build_another(const std::string& name, const std::string& diff,
                                 const std::vector<std::string>& link_flags) {
  const fs::path tree = dir_.path() / (name + "_src");
  fs::copy(source_tree(), tree, fs::copy_options::recursive);
  if (!diff.empty()) {
    dir_.must_run({"patch", "-s", "-p1", "-i", dir_.path() / diff}, tree);
  }
  const std::vector<std::string> before = case_.link_flags;
  case_.link_flags.insert(case_.link_flags.end(), link_flags.begin(), link_flags.end());
  const fs::path program = compile(tree, dir_.path() / (name + "_build"));
  case_.link_flags = before;
  return program;
}

fs::path Workshop::build_oracle() {
  const fs::path tree = dir_.path() / "patched_src";
  fs::copy(source_tree(), tree, fs::copy_options::recursive);
  dir_.must_run({"patch", "-s", "-p1", "-i", diff()}, tree);
  // A diff may add a unit; one that it removes is gone from the link as well.
  const std::vector<fs::path> original_units = units_;
  units_.clear();
  for (const auto& entry : fs::recursive_directory_iterator(tree)) {
    if (entry.is_regular_file() && is_unit(entry.path())) {
      units_.push_back(fs::relative(entry.path(), tree));
    }
  }
  std::sort(units_.begin(), units_.end());
  // In an ordinary build the header of hooks is one of the system's.
  setenv("CPATH", QP_INCLUDE, 1);
  const fs::path program = compile(tree, dir_.path() / "patched_build");
  unsetenv("CPATH");
  units_ = original_units;
  return program;
}

std::vector<std::string> Workshop::build_arguments(const fs::path& target,
                                                   const fs::path& out) const {
  std::vector<std::string> arguments = {"build",    "--compdb", build_tree(), "--patch", diff(),
                                        "--target", target,     "-o",         out};
  arguments.insert(arguments.end(), case_.build_flags.begin(), case_.build_flags.end());
  return arguments;
}

}  // namespace qp::live
