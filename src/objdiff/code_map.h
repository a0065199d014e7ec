// The instructions of one code atom, and where a reference in it leads.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/bytes.h"
#include "elf/atom.h"

namespace qp::objdiff {

class CodeMap {
 public:
  explicit CodeMap(ByteView code);

  // False: something in it is not an instruction (data in text). Then only what precedes it is
  // here.
  bool complete() const { return complete_; }
  // End of the instruction that contains the byte `at`; nullopt in what could not be decoded.
  std::optional<uint64_t> instruction_end(uint64_t at) const;
  // Start of it.
  std::optional<uint64_t> instruction_start(uint64_t at) const;
  // The instruction that contains the byte `at` is a direct jump, branch or call.
  bool is_direct_branch(uint64_t at) const;
  // Ordinal, NOPs not counted, of the first real instruction at or behind the boundary `offset`.
  // Nullopt if `offset` is not a boundary.
  std::optional<uint32_t> index_at(int64_t offset) const;
  // How many instructions are not NOPs.
  uint32_t count() const { return count_; }

 private:
  struct Entry {
    uint32_t offset;
    uint32_t index;  // ordinal of this or the next real instruction
    bool branch;     // it has a branch distance
  };
  const Entry* find(uint64_t at) const;
  std::vector<Entry> entries_;
  uint64_t size_ = 0, decoded_ = 0;
  uint32_t count_ = 0;
  bool complete_ = true;
};

// Where `ref` leads, relative to the start of its symbol: S is left out, and what the psABI
// subtracts for the place is put back. `map`: of the containing atom if that is code, else nullptr.
// In code a PC-relative field counts from the end of its instruction (−4, or −8 with a trailing
// immediate); in a table from the start of the table, which is what the code that reads it adds.
// Tables of .gcc_except_table are read entry by entry, so there it is the place itself.
int64_t target_offset(const elf::Ref& ref, const elf::Atom& container, const CodeMap* map);

// .gcc_except_table: language-specific data of unwind entries.
bool is_lsda(const elf::Atom& atom);

}  // namespace qp::objdiff
