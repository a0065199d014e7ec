// The patched versions of the files that the diffs touch, beside the user's tree, which is never
// written.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/subprocess.h"
#include "build/compdb.h"

namespace qp::build {

struct PatchedFile {
  enum class Kind : uint8_t { Changed, Added, Deleted };
  std::filesystem::path path;  // absolute, in the user's tree
  std::string name;            // as in the diff: relative to the root
  Kind kind = Kind::Changed;
  std::string patched;  // the text, with #line where that makes sense; "" if deleted
};

// How a compiler run sees the files.
struct View {
  std::vector<BindMount> binds;
  std::vector<OverlayMount> overlays;
  // Without mount namespaces: words that name something below `root` name it below `copy`; both
  // empty otherwise.
  std::filesystem::path root, copy;
};

class PatchedTree {
 public:
  // Finds the files below the directories that the compile database knows, and applies the diffs to
  // copies. Throws Error{patch-root} (not found, or more than one place fits), Error{patch-failed}
  // with the words of patch, Error{patch-unsupported}. Offsets end in `warnings`.
  PatchedTree(const std::vector<std::filesystem::path>& patches,
              const std::vector<CompileCommand>& commands, std::vector<std::string>& warnings);

  const std::vector<PatchedFile>& files() const { return files_; }  // by path; really changed ones
  const PatchedFile* find(const std::filesystem::path& path) const;
  // What the compilation of the patched source sees (that of the original sees the user's tree).
  // Binds, overlays or a copy by what the kernel allows; `allow_mounts` false: the copy.
  const View& patched_view(bool allow_mounts = true);
  // Another text for one of files(), which is not deleted; views show it from now on.
  void rewrite(const std::filesystem::path& path, std::string text);
  const std::filesystem::path& scratch() const { return dir_.path(); }

 private:
  void apply(const std::filesystem::path& patch, const std::vector<std::filesystem::path>& roots,
             std::vector<std::string>& warnings);
  void collect();
  void make_mounts();
  void make_copy();
  std::filesystem::path work(const std::filesystem::path& path) const;

  TempDir dir_;
  std::filesystem::path root_;  // of the first diff
  std::vector<PatchedFile> files_, touched_;
  View view_;
  bool view_ready_ = false;
};

}  // namespace qp::build
