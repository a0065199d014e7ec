// A small project on disk, for tests of everything that reads one.
#pragma once

#include <filesystem>
#include <initializer_list>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "build/compdb.h"

namespace qp::build {

class Project {
 public:
  // File name → content, below root().
  Project(std::initializer_list<std::pair<const char*, const char*>> files);
  const std::filesystem::path& root() const { return root_; }
  void write(const std::string& name, const std::string& content);
  // An entry that compiles `file` in `root()/build`.
  void add_command(const std::string& file, std::vector<std::string> options = {});
  const std::vector<CompileCommand>& commands() const { return commands_; }
  // Makes the unified diff from the present files to `changed` ("" deletes), as `diff -u` does; its
  // path is outside of the root.
  std::filesystem::path diff(const std::map<std::string, std::string>& changed);
  // Name, content, modification time and inode of every file: what must not change.
  std::string fingerprint() const;

 private:
  TempDir dir_;
  std::filesystem::path root_;
  std::vector<CompileCommand> commands_;
  int diffs_ = 0;
};

}  // namespace qp::build
