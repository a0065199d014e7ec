// Builds a case: the tree as a developer has it, the target, and the program that the patched
// source gives, which is what a patched process is measured by.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "harness/case.h"
#include "harness/workdir.h"

namespace qp::live {

class Workshop {
 public:
  // Copies the sources of the case and protocol.c into `dir`/src. Nothing is compiled yet.
  Workshop(Workdir& dir, const Case& what, const Configuration& how);

  // Compiles and links; writes build/compile_commands.json as CMake or bear do. The path of the
  // target.
  std::filesystem::path build_target();
  // The same from a copy of the tree with the diff applied.
  std::filesystem::path build_oracle();

  // Another build of the program, in a directory `name`: from a tree with `diff` applied ("" for
  // none), and linked with more flags. qpatch does not know it.
  std::filesystem::path build_another(const std::string& name, const std::string& diff,
                                      const std::vector<std::string>& link_flags = {});

  std::filesystem::path source_tree() const { return dir_.path() / "src"; }
  std::filesystem::path build_tree() const { return dir_.path() / "build"; }
  std::filesystem::path diff() const { return dir_.path() / "fix.patch"; }
  // Arguments of `qpatch build` for this case; the patch is written to `out`.
  std::vector<std::string> build_arguments(const std::filesystem::path& target,
                                           const std::filesystem::path& out) const;

 private:
  std::filesystem::path compile(const std::filesystem::path& tree,
                                const std::filesystem::path& into);
  void write_compdb() const;
  std::vector<std::string> compile_command(const std::filesystem::path& unit,
                                           const std::filesystem::path& tree) const;

  Workdir& dir_;
  Case case_;
  Configuration how_;
  std::vector<std::filesystem::path> units_;  // relative to the tree
};

}  // namespace qp::live
