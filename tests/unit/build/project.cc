#include "project.h"

#include <sys/stat.h>

#include <set>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/subprocess.h"

namespace qp::build {

namespace fs = std::filesystem;

Project::Project(std::initializer_list<std::pair<const char*, const char*>> files)
    : dir_("qp-project-"), root_(fs::canonical(dir_.path()) / "src") {
  fs::create_directories(root_ / "build");
  for (const auto& [name, content] : files) {
    write(name, content);
  }
}

void Project::write(const std::string& name, const std::string& content) {
  fs::create_directories((root_ / name).parent_path());
  write_file(root_ / name, as_bytes(content));
}

void Project::add_command(const std::string& file, std::vector<std::string> options) {
  CompileCommand command;
  command.directory = root_ / "build";
  command.recorded_file = "../" + file;
  command.file = root_ / file;
  command.arguments = {"gcc", "-O2", "-I../include"};
  command.arguments.insert(command.arguments.end(), options.begin(), options.end());
  std::vector<std::string> rest = {"-MD", "-MF", "x.d", "-c", "../" + file, "-o", "x.o"};
  command.arguments.insert(command.arguments.end(), rest.begin(), rest.end());
  commands_.push_back(std::move(command));
}

fs::path Project::diff(const std::map<std::string, std::string>& changed) {
  fs::path a = dir_.path() / "a", b = dir_.path() / "b";
  for (const auto& [name, content] : changed) {
    for (const fs::path& side : {a, b}) {
      fs::create_directories((side / name).parent_path());
    }
    if (fs::exists(root_ / name)) {
      fs::copy_file(root_ / name, a / name);
    }
    if (!content.empty()) {
      write_file(b / name, as_bytes(content));
    }
  }
  RunOptions options;
  options.directory = dir_.path();
  RunResult result = run({"diff", "-ruN", "a", "b"}, options);
  EXPECT_EQ(result.exit_code, 1);
  fs::remove_all(a);
  fs::remove_all(b);
  fs::path out = dir_.path() / fmt::format("{}.diff", diffs_++);
  write_file(out, as_bytes(result.out));
  return out;
}

std::string Project::fingerprint() const {
  std::set<std::string> lines;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(root_)) {
    struct stat st {};
    EXPECT_EQ(::lstat(entry.path().c_str(), &st), 0);
    lines.insert(fmt::format("{} {} {} {}.{} {}\n", entry.path().string(), st.st_ino, st.st_mode,
                             st.st_mtim.tv_sec, st.st_mtim.tv_nsec,
                             entry.is_regular_file() ? content_hash(read_file(entry.path())) : ""));
  }
  std::string out;
  for (const std::string& line : lines) {
    out += line;
  }
  return out;
}

}  // namespace qp::build
