// Runs another program (compiler, patch) and waits for it. Never through a shell.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace qp {

struct BindMount {
  std::filesystem::path from, over;  // `over` exists; it shows the content of `from` to the program
};

// The directory `over` shows, read-only, its own content with that of the directory `layer` on top:
// files that exist in both come from `layer`, a character device 0/0 in `layer` hides a name.
struct OverlayMount {
  std::filesystem::path layer, over;
};

struct RunOptions {
  std::filesystem::path directory;                 // working directory; empty: ours
  std::map<std::string, std::string> environment;  // added to ours
  // A private mount namespace in which each `over` is covered; overlays first. Needs CAP_SYS_ADMIN
  // or unprivileged user namespaces; run() throws Error{mount-namespace} if the kernel allows
  // neither.
  std::vector<BindMount> binds;
  std::vector<OverlayMount> overlays;
};

struct RunResult {
  int exit_code = 0;  // 128 + signal if it was killed by one
  std::string out, err;
};

// `argv[0]` is looked up in PATH. Throws Error{system} if the program can't be started.
RunResult run(const std::vector<std::string>& argv, const RunOptions& options = {});

// True if run() with binds (with overlays) works here; probed once by trying.
bool can_bind_mount();
bool can_overlay_mount();

}  // namespace qp
