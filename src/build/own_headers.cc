// A patch may include <qpatch/hooks.h>, and the build that it is replayed from knows nothing of it.
// Installed files could be of another version than the program that reads what their macros leave,
// so the header is a part of the program and is written out for each build. The directory comes last
// among the -isystem directories of the command and holds nothing else, so that no other header can
// be found in it by mistake. It is given to both compilations, which have to be equal.

#include "build/own_headers.h"

#include "base/bytes.h"
#include "base/fd.h"

namespace qp::build {

std::filesystem::path write_own_headers(const std::filesystem::path& scratch) {
  const std::filesystem::path directory = scratch / "include";
  std::filesystem::create_directories(directory / "qpatch");
  write_file(directory / "qpatch" / "hooks.h", as_bytes(kHooksHeader));
  return directory;
}

}  // namespace qp::build
