// The compiler runs with the recorded working directory and a plain locale (messages go to people
// and to bug reports; GCC's quotes differ by locale).
//
// __DATE__ and __TIME__ would make two compilations of one source differ; both compilers take the
// time from SOURCE_DATE_EPOCH (https://reproducible-builds.org/specs/source-date-epoch/), so both
// runs get the same. Dependency files can also be asked for by the environment (GCC manual,
// "Environment Variables Affecting GCC"); they go to /dev/null. A ccache that hides behind the name
// of the compiler is told to stay out.

#include "build/compile.h"

#include <cstdlib>

#include <fmt/format.h>

#include "base/error.h"
#include "base/subprocess.h"

namespace qp::build {
namespace {

RunResult run_compiler(const Replay& replay, const View& view,
                       const std::vector<std::string>& command, std::string_view which) {
  RunOptions options;
  options.directory = replay.directory;
  if (!view.copy.empty()) {
    std::filesystem::path below = replay.directory.lexically_relative(view.root);
    if (!below.empty() && *below.begin() != "..") {
      options.directory = view.copy / below;
    }
  }
  options.binds = view.binds;
  options.overlays = view.overlays;
  options.environment = {{"LC_ALL", "C"}, {"CCACHE_DISABLE", "1"}};
  if (std::getenv("SOURCE_DATE_EPOCH") == nullptr) {
    options.environment["SOURCE_DATE_EPOCH"] = "0";
  }
  for (const char* name : {"DEPENDENCIES_OUTPUT", "SUNPRO_DEPENDENCIES"}) {
    if (std::getenv(name) != nullptr) {
      options.environment[name] = "/dev/null";
    }
  }
  RunResult result = run(command, options);
  if (result.exit_code != 0) {
    std::string said = result.err.empty() ? result.out : result.err;
    while (said.ends_with("\n")) {
      said.pop_back();
    }
    throw Error("compile-failed", fmt::format("can't compile the {} version of", which),
                replay.source.string(),
                fmt::format("{} ended with {}\n{}", command[0], result.exit_code, said));
  }
  return result;
}

}  // namespace

void compile_object(const Replay& replay, const View& view, const std::filesystem::path& object,
                    std::string_view which) {
  run_compiler(replay, view, object_command(replay, view, object), which);
}

std::string preprocess(const Replay& replay, const View& view, std::string_view which) {
  return run_compiler(replay, view, preprocess_command(replay, view), which).out;
}

}  // namespace qp::build
