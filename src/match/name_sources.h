// The files that hold a target's names, beside the target itself.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "elf/file.h"

namespace qp::match {

struct NameSources {
  std::optional<elf::File> debug;  // has the .symtab that the target lost
  std::optional<elf::File> mini;   // has names of functions
};

// For a target at `path` that has no .symtab. `explicit_debug`: the file that the user named, or
// empty: then the usual places are looked at. Throws Error{debug-mismatch} if the user's file is of
// another build or has no .symtab, Error{bad-file}.
NameSources find_names(const elf::File& target, const std::filesystem::path& path,
                       const std::filesystem::path& explicit_debug,
                       std::vector<std::string>& warnings);

}  // namespace qp::match
