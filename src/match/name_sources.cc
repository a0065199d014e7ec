#include "match/name_sources.h"

#include <fmt/format.h>

#include "base/error.h"
#include "elf/debug_files.h"

namespace qp::match {

NameSources find_names(const elf::File& target, const std::filesystem::path& path,
                       const std::filesystem::path& explicit_debug,
                       std::vector<std::string>& warnings) {
  NameSources names;
  if (!explicit_debug.empty()) {
    names.debug = elf::File::open(explicit_debug);
    const auto fail = [&](const std::string& what) {
      return Error("debug-mismatch", "can't use", explicit_debug.string(), what, ExitCode::NoMatch);
    };
    if (names.debug->build_id() != target.build_id()) {
      throw fail(fmt::format("its build-id {} is not that of {}, {}",
                             names.debug->build_id().value_or("(none)"), path.string(),
                             target.build_id().value_or("(none)")));
    }
    if (names.debug->symbols().empty() && target.symbols().empty()) {
      throw fail("it has no .symtab");
    }
  } else if (target.symbols().empty()) {
    names.debug = elf::find_debug_file(target, path, warnings);
  }
  if (target.symbols().empty() && !names.debug) {
    names.mini = elf::read_mini_debug(target);
  }
  return names;
}

}  // namespace qp::match
