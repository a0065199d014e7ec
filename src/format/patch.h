// The patch as a value: what `qpatch build` found out and `qpatch apply` needs.
#pragma once

#include <string>
#include <vector>

#include "base/address.h"
#include "elf/atom.h"
#include "elf/binding.h"

namespace qp::format {

inline constexpr int kFormatVersion = 1;
inline constexpr int kPartsVersion = 2;  // of a file with several parts
// Of a patch, or part, with hooks, which older programs must not pass over.
inline constexpr int kHooksVersion = 3;

struct Meta {
  std::string target_name;           // base name of the target's file
  std::string target_soname;         // "" for an executable
  std::string target_build_id;       // lower-case hex; never empty
  bool position_independent = true;  // target is ET_DYN: its load bias differs per process
  std::string description;
  std::vector<std::string> cves;
  std::string toolchain;                // DW_AT_producer of the compilation
  std::vector<std::string> sources;     // the units that were compiled, as recorded
  std::vector<std::string> waivers;     // "type-layout:Foo"
  std::vector<std::string> supersedes;  // ids of patches that make room for this one
};

// A function that is replaced in the target.
struct Replaced {
  std::string name;
  std::string file;               // FILE scope of a static function, else ""
  elf::AtomId old_function;       // in Patch::old
  elf::AtomId new_function;       // in Patch::fresh
  LinkAddr entry;                 // of the old one in the target
  std::vector<LinkRange> ranges;  // of the old unit in the target; the function first
  std::string why;                // first difference, for `info`
};

// A function of the patch that qpatch runs in the process (include/qpatch/hooks.h, whose numbers
// these are).
struct Hook {
  enum class When : uint8_t { PreApply = 1, PostApply = 2, PreRevert = 3, PostRevert = 4 };
  enum class Others : uint8_t { Running = 1, Stopped = 2 };  // the other threads meanwhile
  std::string name;
  std::string file;  // FILE scope of a static function, else ""
  When when = When::PreApply;
  Others others = Others::Stopped;
  elf::AtomId function = 0;  // in Patch::fresh
  bool operator==(const Hook&) const = default;
};
// A variable that the patch adds and that keeps its value when a later patch supersedes this one: that
// one has a variable of the same name, file, size and type.
struct Variable {
  elf::AtomSymbolId symbol = 0;  // in Patch::fresh; defined there, writable
  std::string name;  // of a static local "function::name"; without the numbers of compilers
  std::string type;  // hash of what its debug information says; "" if it has none
  bool operator==(const Variable&) const = default;
};

const char* name_of(Hook::When when);      // "pre-apply"
const char* name_of(Hook::Others others);  // "stopped"

// For one target.
struct Patch {
  Meta meta;
  // New code and data. A symbol without an atom is in the target or elsewhere: fresh_bindings says
  // where (parallel to fresh.symbols, Unbound for those with an atom). A reference to a replaced
  // function names a symbol bound to the function's old entry, never its new atom.
  elf::AtomGraph fresh;
  std::vector<elf::Binding> fresh_bindings;
  // The original units and the read-only data they refer to, for the proof in the process.
  elf::AtomGraph old;
  std::vector<elf::Binding> old_bindings;  // parallel to old.symbols; Unbound: not needed
  std::vector<Replaced> replaced;          // by entry
  std::vector<Hook> hooks;                 // in the order in which they run
  std::vector<Variable> variables;         // by symbol

  std::string id() const;  // first 8 characters of the content hash of write_patch(*this)
};

// What a patch file holds: a patch for each of its targets, its parts, which go into a process
// together.
struct PatchFile {
  std::vector<Patch> parts;  // never empty; no two for one target
  std::string id()
      const;  // that of the only part; else by the hash of what write_patch_file() seals
};

// Symbols of `fresh` that other modules could come to use: globals that the patch defines anew, of
// a visibility that does not keep them in their module.
std::vector<elf::AtomSymbolId> new_globals(const Patch& patch);

}  // namespace qp::format
