// Run-pre proof: the instruction-by-instruction comparison of an original function with the code of
// a target. Equal instructions prove the function; each relocation solves a symbol.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/memory_reader.h"
#include "elf/atom.h"
#include "elf/binding.h"
#include "match/symbol_map.h"

namespace qp::match {

// The code to compare with: a file, or one module of a live process.
struct Target {
  const TargetReader& memory;
  const SymbolMap& symbols;              // may be empty (stripped)
  std::optional<int64_t> tls_block_end;  // elf::File::tls_block_end()
  // Set if `memory` is a process: pointers there hold bias + address, and GOT slots are filled. If
  // not set, `memory` is a file, where ld.so's relocations stand for them.
  std::optional<LoadBias> live_bias = std::nullopt;
};

struct CodeDifference {
  std::string function;
  uint64_t at = 0;  // offset in the original function
  LinkAddr target_at;
  std::string what;  // "object: cmp $0x5,%eax; target: cmp $0x6,%eax"
};

struct Solution {
  elf::AtomSymbolId symbol;
  elf::Binding binding;
};

struct Proof {
  bool proven = false;
  uint64_t target_size = 0;                  // bytes of the function in the target
  std::vector<Solution> solutions;           // one per symbol, consistent
  std::optional<CodeDifference> difference;  // the first, if not proven
};

// Compares atom `function` of `original` with the target at `candidate`. Reads only. Strings,
// constants, jump tables and anonymous read-only data that the code refers to are compared by
// content (recursively); writable and external symbols are solved. A `.cold` piece is a symbol to
// solve: the caller proves it at the solved address (see prove_unit).
Proof prove(const elf::AtomGraph& original, elf::AtomId function, LinkAddr candidate,
            const Target& target);

// The function at `candidate` and every piece whose `parent` it is, at the addresses that the proof
// solves. Proven only if all are, and all solutions agree.
struct UnitProof {
  bool proven = false;
  std::vector<Solution> solutions;
  std::vector<LinkRange> ranges;  // of the function (first) and its pieces in the target
  std::optional<CodeDifference> difference;
};
UnitProof prove_unit(const elf::AtomGraph& original, elf::AtomId function, LinkAddr candidate,
                     const Target& target);

}  // namespace qp::match
