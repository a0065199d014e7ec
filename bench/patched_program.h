// What the benchmarks share: a program of one source file, and a patch for it.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace bench {

// Ends the benchmark with a message.
[[noreturn]] void die(const std::string& what);

// Runs a program to its end; its output goes to the file `log`. Ends the benchmark, with the output,
// if it fails.
void must_run(const std::vector<std::string>& argv, const std::filesystem::path& log);

// A real-time priority for the driver itself, and none for what it measures: where the victim takes all
// processors, its own wait for one would be measured as well.
void be_first();
void be_ordinary();

// A folder below /tmp, removed at the end.
class Folder {
 public:
  Folder();
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder();
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

class PatchedProgram {
 public:
  // Compiles `source` in `folder`, and makes a patch from it in which `before` is `after`.
  PatchedProgram(const std::filesystem::path& folder, const std::string& qpatch,
                 const std::filesystem::path& source, const std::string& before,
                 const std::string& after);
  std::filesystem::path program() const { return folder_ / "victim"; }
  void apply(const std::vector<std::string>& selection) const;  // {"--pid", "123"}
  void revert(const std::vector<std::string>& selection) const;

 private:
  void build(const std::filesystem::path& source, const std::string& before,
             const std::string& after);

  std::filesystem::path folder_;
  std::string qpatch_, id_;
};

double quantile(std::vector<double> values, double q);

}  // namespace bench
