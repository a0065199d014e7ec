// Private to format: what makes a patch consistent, checked by the reader and by the writer.
#pragma once

#include <string>

#include "elf/atom.h"
#include "format/patch.h"

namespace qp::format {

// Throws Error{bad-file} with the place of what is wrong.
void check_graph(const elf::AtomGraph& graph, const std::string& name);
void check_patch(const Patch& patch, const std::string& name);
// How the parts fit together; each of them is consistent in itself.
void check_parts(const PatchFile& file, const std::string& name);

}  // namespace qp::format
