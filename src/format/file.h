// NAME.qp: an ELF64 relocatable file that readelf and objdump can read.
//   .text.NAME, .rodata…, .data…, .bss…  one section per atom of `fresh`, with .rela
//   .qpatch.symtab.dst/.qpatch.strtab.dst  the ELF symbol table: symbols of the patch
//   .qpatch.atoms                          what ELF can't say about atoms: kinds, unwind entries …
//   .qpatch.symtab.src/.qpatch.strtab.src  symbols of the running program (SHT_DYNSYM)
//   .qpatch.bindings                       what ELF can't say about them: evidence, stub, slot …
//   .qpatch.diffdata (RELA)                each place in the patch that refers to the program
//   .qpatch.old                            the original units: a relocatable ELF file of its own
//   .qpatch.meta                           JSON
// A patch for several targets holds one such file for each:
//   .qpatch.part.TARGET                    by target, in the order in which they were given
//   .qpatch.meta                           JSON: which parts there are
// Either has, of the whole file:
//   .qpatch.digest                         BLAKE2b-256 of its bytes, in hex
#pragma once

#include <filesystem>
#include <string>

#include "base/bytes.h"
#include "format/patch.h"

namespace qp::format {

// Deterministic.
Bytes write_patch(const Patch& patch);
// Untrusted input: throws Error{bad-file} with the place; a patch that it returns is consistent
// (indexes valid, bindings complete, entries inside ranges).
Patch read_patch(Bytes bytes, const std::string& name);
// The same for files with one part or several, as they are on disk. Bytes are read whatever their
// digest says; a file is refused with Error{bad-file} if it has none or another one.
Bytes write_patch_file(const PatchFile& file);
PatchFile read_patch_file(Bytes bytes, const std::string& name);
PatchFile open_patch(const std::filesystem::path& path);

}  // namespace qp::format
