// Call frame information (.eh_frame), through libdw. Two users: objdiff wants to know whether the
// unwind entries of a function changed, unwind wants the rules at a program counter.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "base/address.h"
#include "base/bytes.h"
#include "elf/file.h"

namespace qp::elf {

// One record of .eh_frame of an object file that describes a function: what it says, position-free.
struct FrameRecord {
  uint32_t section = 0;  // section of the described function
  uint64_t offset = 0;   // of the function in that section (from the relocation of pc_begin)
  uint64_t size = 0;     // pc_range
  Bytes cie;             // augmentation, factors, initial instructions (without length/ids)
  Bytes instructions;    // of the FDE, trailing DW_CFA_nop removed
  std::optional<Relocation> personality;  // of the CIE
  std::optional<Relocation> lsda;         // of the FDE (symbol, addend into .gcc_except_table)
};
// Throws Error{bad-file} for records it can't read; order as in the file.
std::vector<FrameRecord> read_frame_records(const File& object);

// One call frame instruction, and from where on it holds (bytes from the start of the range; the
// advance instructions between are gone). Throws Error{bad-file}.
struct FrameStep {
  uint64_t location = 0;
  Bytes instruction;
  bool operator==(const FrameStep&) const = default;
};
std::vector<FrameStep> read_frame_steps(ByteView cie, ByteView instructions);

// x86-64 DWARF register numbers (psABI figure 3.36): 0 rax, 1 rdx, 2 rcx, 3 rbx, 4 rsi, 5 rdi,
// 6 rbp, 7 rsp, 8–15 r8–r15, 16 return address.
inline constexpr int kDwarfRsp = 7, kDwarfRbp = 6, kDwarfReturn = 16, kDwarfRegisters = 17;

// A DWARF expression operation, operands decoded.
struct FrameOp {
  uint8_t atom = 0;  // DW_OP_*
  uint64_t number = 0, number2 = 0;
};
struct RegisterRule {
  enum class Kind { SameValue, Undefined, AtAddress, IsValue, InRegister } kind = Kind::SameValue;
  std::vector<FrameOp> ops;  // AtAddress / IsValue: evaluated on a stack that holds the CFA
  int reg = -1;              // InRegister
};
struct FrameRules {
  std::vector<FrameOp> cfa;  // expression for the CFA
  RegisterRule registers[kDwarfRegisters];
  bool signal_frame = false;  // augmentation 'S'
};

class CfiTable {
 public:
  // From a linked file's .eh_frame (section headers or PT_GNU_EH_FRAME) and .debug_frame.
  static CfiTable from_file(std::shared_ptr<const File> file);
  CfiTable(CfiTable&&) noexcept;
  CfiTable& operator=(CfiTable&&) noexcept;
  ~CfiTable();
  // Nullopt: no record covers pc.
  std::optional<FrameRules> find_rules(LinkAddr pc) const;
  // The range [pc_begin, pc_end) of the .eh_frame record that covers pc: a function or a piece of
  // one. Nullopt: none does (.debug_frame is not asked).
  std::optional<LinkRange> find_range(LinkAddr pc) const;

 private:
  CfiTable();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace qp::elf
