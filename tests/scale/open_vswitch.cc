#include "open_vswitch.h"

#include <algorithm>
#include <cstdlib>
#include <random>
#include <stdexcept>
#include <string_view>

#include "base/fd.h"
#include "base/subprocess.h"
#include "build/compdb.h"
#include "build/compile.h"

namespace qp::scale {

namespace fs = std::filesystem;

bool full() {
  const char* wanted = std::getenv("QPATCH_SCALE");
  return wanted != nullptr && std::string_view(wanted) == "full";
}

const fs::path& tree() {
  static const fs::path built = [] {
    RunResult result = run({fs::path(QP_ROOT) / "demos/ovs_build.sh"});
    if (result.exit_code != 0) {
      throw std::runtime_error(result.err);
    }
    return fs::path(result.out.substr(0, result.out.find('\n')));
  }();
  return built;
}

const std::vector<build::Replay>& units() {
  static const std::vector<build::Replay> all = [] {
    std::vector<build::Replay> out;
    for (const build::CompileCommand& command : build::read_compdb(tree())) {
      out.push_back(build::make_replay(command));
    }
    // The order of a build with several jobs is never the same, and samples are taken of this one.
    std::sort(out.begin(), out.end(),
              [](const build::Replay& a, const build::Replay& b) { return a.source < b.source; });
    return out;
  }();
  return all;
}

Bytes compile(const build::Replay& unit, const std::string& text) {
  TempDir directory("qpatch-scale");
  build::View view;
  if (!text.empty()) {
    fs::path file = directory.path() / unit.source.filename();
    write_file(file, as_bytes(text));
    view.binds.push_back({file, unit.source});
  }
  fs::path object = directory.path() / "unit.o";
  build::compile_object(unit, view, object, "changed");
  return read_file(object);
}

std::vector<const build::Replay*> sample_of_units(size_t count) {
  std::vector<const build::Replay*> out;
  for (const build::Replay& unit : units()) {
    out.push_back(&unit);
  }
  std::mt19937_64 random(kSeed);
  std::shuffle(out.begin(), out.end(), random);
  out.resize(full() ? out.size() : std::min(count, out.size()));
  return out;
}

}  // namespace qp::scale
