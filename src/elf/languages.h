// Source languages of a file's compile units.
#pragma once

#include <optional>
#include <string>

#include "elf/file.h"

namespace qp::elf {

// The name of a compile unit in C++ that was not compiled with -fno-exceptions, as far as the
// compiler says that (clang does not). Nullopt: none, or no DWARF. Throws Error{bad-file}.
std::optional<std::string> find_cxx_with_exceptions(const File& file);

}  // namespace qp::elf
