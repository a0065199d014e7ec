// Which units can include a file, told from the text alone.
#pragma once

#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "build/command.h"
#include "build/patched_tree.h"

namespace qp::build {

// Never misses a unit that includes a touched file; may name some that don't (branches of #if are
// not evaluated, every directory of the search path counts, a computed #include can be anything).
class IncludeGraph {
 public:
  explicit IncludeGraph(const std::vector<PatchedFile>& touched);
  bool may_include(const Replay& replay);

 private:
  struct Text {
    std::vector<std::string> includes;  // "a/b.h", as written
    bool computed = false;              // #include MACRO, or __has_include of what appears or goes
  };
  using Directories = std::vector<std::filesystem::path>;
  // Everything below is per list of search directories.
  struct Search {
    std::map<std::filesystem::path, bool> reaches;  // settled files
  };

  const Text& text_of(const std::filesystem::path& file);
  bool exists(const std::filesystem::path& file);
  std::vector<std::filesystem::path> resolve(const std::string& name,
                                             const std::filesystem::path& from,
                                             const Directories& directories);
  bool reaches(const std::vector<std::filesystem::path>& from, const Directories& directories);

  std::set<std::filesystem::path> touched_;
  std::set<std::string> touched_names_;    // base names
  std::set<std::string> coming_or_going_;  // base names of added and deleted files
  std::map<std::filesystem::path, Text> texts_;
  std::map<std::filesystem::path, bool> exists_;
  std::map<Directories, Search> searches_;
};

}  // namespace qp::build
