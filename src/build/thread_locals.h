// New thread-local variables in the patched source. Private to build.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "build/patched_tree.h"
#include "elf/declarations.h"
#include "elf/file.h"

namespace qp::build {

// Thread-local variables that the patched object defines and the original does not.
std::vector<elf::ThreadLocal> find_new_thread_locals(const elf::File& original,
                                                     const elf::File& patched);

// `text` with tls_model("global-dynamic") at the declaration of `name` on a line that has this
// (presumed) number; nullopt where there is none in which __thread or the like stands. Lines keep their
// numbers.
std::optional<std::string> make_dynamic(std::string_view text, const std::string& name,
                                        int64_t line);

// The same for all of `variables` that are declared in files of the patch. True if any was changed.
bool make_dynamic(PatchedTree& tree, const std::vector<elf::ThreadLocal>& variables);

}  // namespace qp::build
