// A victim whose work is done in a shared library, and the ways in which a process gets it.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "harness/snapshot.h"
#include "harness/victim.h"
#include "harness/workdir.h"

namespace qp::live {

enum class Loading { AtStart, ByDlopen, ByDlopenLocal };
std::string name_of(Loading how);

// What makes a library and its surroundings. `original` and `patched` are C: they define
// `int answer(int)`, which the host calls for each probe.
struct LibraryRecipe {
  std::string original, patched;
  std::vector<std::string> flags, link_flags;  // of the library
  std::string host;     // C for the host's program: host_start() is called before `ready`
  std::string preload;  // C for a library that LD_PRELOAD loads; may be empty
  std::string compiler = "gcc";
};

class LibraryVictim {
 public:
  // Builds library, host and preload in `dir`; starts nothing.
  LibraryVictim(Workdir& dir, const LibraryRecipe& recipe, Loading how);

  std::filesystem::path library() const { return dir_.path() / "build/libvictim.so"; }
  std::filesystem::path patch() const { return dir_.path() / "fix.qp"; }
  // `host`: another name for the program. Variables of the environment in `more`.
  std::unique_ptr<Victim> start(const std::string& host = "host",
                                const std::map<std::string, std::string>& more = {});
  CommandResult build_patch(const std::vector<std::string>& more = {});
  // The library anew, with other code and data in front: another build-id, other addresses.
  void build_another();

 private:
  void link(const std::vector<std::string>& objects);

  Workdir& dir_;
  LibraryRecipe recipe_;
  Loading how_;
};

}  // namespace qp::live
