// The target of a build: the ELF file that processes run.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/report.h"
#include "elf/file.h"
#include "match/name_sources.h"
#include "match/proof.h"
#include "match/symbol_map.h"

namespace qp::build {

struct TargetFile {
  std::string name;  // base name
  std::unique_ptr<const elf::File> file;
  std::unique_ptr<const elf::FileReader> reader;
  match::NameSources names;
  match::SymbolMap symbols;
  match::Target view() const { return {*reader, symbols, file->tls_block_end()}; }
};

// Refuses target-unsupported, no-build-id. Throws Error{bad-file},
// Error{debug-mismatch}.
TargetFile open_target(const std::filesystem::path& path, const std::filesystem::path& debug_file,
                       Report& report, std::vector<std::string>& warnings);

// "GCC 12.2.0", "clang 14.0.6"; "" for something else (an assembler).
std::string compiler_of(const std::string& producer);
// Nullopt if the object's compiler is among the target's (or nothing is known), else the warning.
std::optional<std::string> compare_compilers(const elf::File& object, const elf::File& target);

// Whether the target has a global that the object defines, but for those that are `explained`. (Each
// program has a `main`.)
bool has_global_of(const elf::AtomGraph& object, const match::SymbolMap& target,
                   const std::set<std::string>& explained);

// Whether the target may have been linked from an object like this one. False: it has FILE symbols,
// none of its name or none of its functions with it, and none of its globals.
bool is_part_of(const elf::AtomGraph& object, const match::SymbolMap& target);

}  // namespace qp::build
