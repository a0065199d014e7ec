// A directory of its own for one test, and the commands that run in it.
#pragma once

#include <chrono>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace qp::live {

struct CommandResult {
  int exit_code = 0;  // 128 + signal if it was killed by one; 124 if it ran out of time
  std::string out, err;
  std::string both() const { return out + err; }
};

// Deterministic name, so that ctest -j has no clashes and a failure can be looked at. The directory
// is emptied at the start and removed at the end, unless keep() was called.
class Workdir {
 public:
  explicit Workdir(const std::string& name);
  Workdir(const Workdir&) = delete;
  Workdir& operator=(const Workdir&) = delete;
  ~Workdir();

  const std::filesystem::path& path() const { return path_; }
  void keep() { keep_ = true; }

  // Runs a program (no shell) in `directory` (default: path()) and waits. Every command is recorded
  // in commands.txt, ready to be pasted. Throws std::runtime_error if it can't be started.
  CommandResult run(const std::vector<std::string>& argv, std::filesystem::path directory = {},
                    std::chrono::seconds limit = std::chrono::seconds(90));
  // The same, and throws with the output if the exit code is not 0.
  CommandResult must_run(const std::vector<std::string>& argv,
                         std::filesystem::path directory = {});
  // qpatch with these arguments.
  CommandResult qpatch(std::vector<std::string> arguments, std::filesystem::path directory = {});

  void write_file(const std::filesystem::path& relative, const std::string& text) const;
  // What ran so far, one command per line with its exit code.
  std::string transcript() const { return transcript_; }

 private:
  std::filesystem::path path_;
  bool keep_ = false;
  int count_ = 0;
  std::string transcript_;
};

// The binary under test: $QPATCH, else the one of this build.
std::string qpatch_program();

std::string read_text(const std::filesystem::path& path);

// Content and time of every file below `root`; equal before and after: nobody wrote there.
std::map<std::string, std::string> tree_state(const std::filesystem::path& root);

// `id` occurs in `text` as a word of its own ("busy", but not in "busybox" or "not-busy").
bool names(const std::string& text, const std::string& id);

}  // namespace qp::live
