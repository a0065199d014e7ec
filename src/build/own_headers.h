// Headers that qpatch brings along for the source of patches.
#pragma once

#include <filesystem>
#include <string_view>

namespace qp::build {

extern const std::string_view kHooksHeader;  // include/qpatch/hooks.h

// Writes them below `scratch`; the directory for the compiler's -isystem.
std::filesystem::path write_own_headers(const std::filesystem::path& scratch);

}  // namespace qp::build
