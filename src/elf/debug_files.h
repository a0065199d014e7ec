// Where the symbols of a stripped file may be kept: a separate debug file, or a small one inside it.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "elf/file.h"

namespace qp::elf {

// The name in .gnu_debuglink; nullopt if there is none or it is damaged.
std::optional<std::string> debug_link(const File& file);

// The first file of the usual places (by build-id below /usr/lib/debug, then by debug link beside
// `path`, in its .debug, and below /usr/lib/debug) that has the file's build-id. Files there that
// do not belong to it, or can't be read, are named in `warnings`.
std::optional<File> find_debug_file(const File& file, const std::filesystem::path& path,
                                    std::vector<std::string>& warnings);

// .gnu_debugdata: names of functions that .dynsym does not have. Nullopt if there is none; throws
// Error{bad-file} if it is damaged, or larger than any such table.
std::optional<File> read_mini_debug(const File& file);

}  // namespace qp::elf
