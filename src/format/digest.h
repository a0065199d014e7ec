// Private to format: the digest of a patch file's bytes.
#pragma once

#include "elf/object_writer.h"

namespace qp::format {

// The file with a section .qpatch.digest more, behind the others.
Bytes write_sealed(elf::OutFile file);
// Throws Error{bad-file} unless the file has a digest and it is that of its bytes.
void check_digest(const elf::File& file);

}  // namespace qp::format
