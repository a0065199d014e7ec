// Private to format: the sections of a .qp file and what both directions know about them.
#pragma once

#include <string>
#include <vector>

#include "elf/object_writer.h"
#include "format/patch.h"

namespace qp::format {

inline constexpr const char* kSymtabDst = ".qpatch.symtab.dst";
inline constexpr const char* kStrtabDst = ".qpatch.strtab.dst";
inline constexpr const char* kSymtabSrc = ".qpatch.symtab.src";
inline constexpr const char* kStrtabSrc = ".qpatch.strtab.src";
inline constexpr const char* kBindings = ".qpatch.bindings";  // of symtab.src, and who uses which
inline constexpr const char* kDiffData = ".qpatch.diffdata";
inline constexpr const char* kOld = ".qpatch.old";
inline constexpr const char* kMeta = ".qpatch.meta";
inline constexpr const char* kDigest = ".qpatch.digest";
inline constexpr const char* kPart = ".qpatch.part.";  // and the target's name

// A symbol of the running program.
struct SourceSymbol {
  elf::OutSymbol symbol;  // value: address or offset from the thread pointer; name with "@VERSION"
  std::string file;       // FILE scope if it is local
  elf::Binding binding;
};

// Per symbol of a graph: its number in symtab.src (1 is the first), 0 if it is not bound.
using SourceNumbers = std::vector<uint32_t>;

// Every place of `fresh` that refers to the running program: offset = (section << 32) | offset in
// it, symbol = number in symtab.src.
std::vector<elf::Relocation> make_diffdata(const elf::AtomGraph& fresh,
                                           const SourceNumbers& numbers);

// The file of one part. Throws Bug if the patch is inconsistent.
elf::OutFile make_file(const Patch& patch);

// .qpatch.meta. parse_meta() throws Error{bad-file}; it sets `meta` and `replaced`.
Bytes write_meta(const Patch& patch);
void parse_meta(ByteView json, const std::string& name, Patch& patch);
// Of a file with several parts: the names of their targets.
Bytes write_parts_meta(const std::vector<std::string>& targets);
std::vector<std::string> parse_parts_meta(ByteView json, const std::string& name);

}  // namespace qp::format
