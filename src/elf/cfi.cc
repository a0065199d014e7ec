// Unwind rules of a linked file, through libdw.
//
// The stack check asks for one program counter: how is the caller's frame found from here? libdw
// answers with the state of the CFA program at that point: an expression for the CFA and one rule
// per register. It finds .eh_frame through PT_GNU_EH_FRAME (a file without section headers works)
// and searches the sorted table of .eh_frame_hdr, so a question costs microseconds. What .eh_frame
// does not cover, .debug_frame may (programs built with -fno-asynchronous-unwind-tables -g).
//
// libdw keeps pointers into the file's bytes, and builds its caches on first use: the table keeps
// the file alive, and belongs to one thread. It reads a file that is no longer what parse() checked
// piece by piece, but does its own checks; it is fuzzed upstream for that purpose.
//
// The form of the answer (elfutils libdw.h, dwarf_frame_register): no operations and a null pointer
// mean "same value", no operations and a pointer "undefined"; a final DW_OP_stack_value makes a
// value out of an address; a lone DW_OP_regN is another register. An expression that starts from
// the CFA begins with DW_OP_call_frame_cfa, which is dropped here, since RegisterRule promises that
// the CFA has been pushed already.

#include "elf/cfi.h"

#include <dwarf.h>
#include <elfutils/libdw.h>
#include <libelf.h>

#include <algorithm>
#include <cstdlib>

#include "base/error.h"
#include "elf/frame_ranges.h"

namespace qp::elf {
namespace {

struct FrameFree {
  void operator()(Dwarf_Frame* f) const { std::free(f); }
};
using FramePtr = std::unique_ptr<Dwarf_Frame, FrameFree>;

std::vector<FrameOp> copy_ops(const Dwarf_Op* ops, size_t count) {
  std::vector<FrameOp> out;
  out.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    out.push_back({ops[i].atom, ops[i].number, ops[i].number2});
  }
  return out;
}

std::optional<RegisterRule> read_rule(Dwarf_Frame* frame, int number) {
  Dwarf_Op memory[3];
  Dwarf_Op* ops = nullptr;
  size_t count = 0;
  if (dwarf_frame_register(frame, number, memory, &ops, &count) != 0) {
    return std::nullopt;
  }
  RegisterRule rule;
  if (count == 0) {
    rule.kind = ops == nullptr ? RegisterRule::Kind::SameValue : RegisterRule::Kind::Undefined;
    return rule;
  }
  if (count == 1 &&
      (ops[0].atom == DW_OP_regx || (ops[0].atom >= DW_OP_reg0 && ops[0].atom <= DW_OP_reg31))) {
    uint64_t reg = ops[0].atom == DW_OP_regx ? ops[0].number : ops[0].atom - DW_OP_reg0;
    if (reg >= kDwarfRegisters) {
      return std::nullopt;
    }
    rule.kind = RegisterRule::Kind::InRegister;
    rule.reg = static_cast<int>(reg);
    return rule;
  }
  rule.kind = RegisterRule::Kind::AtAddress;
  if (ops[count - 1].atom == DW_OP_stack_value) {
    rule.kind = RegisterRule::Kind::IsValue;
    --count;
  }
  size_t first = count > 0 && ops[0].atom == DW_OP_call_frame_cfa ? 1 : 0;
  rule.ops = copy_ops(ops + first, count - first);
  return rule;
}

}  // namespace

struct CfiTable::Impl {
  std::shared_ptr<const File> file;
  Elf* elf = nullptr;
  Dwarf* dwarf = nullptr;
  Dwarf_CFI* eh_frame = nullptr;                 // ours to end
  Dwarf_CFI* debug_frame = nullptr;              // belongs to `dwarf`
  std::optional<std::vector<LinkRange>> ranges;  // read when first asked for

  Impl() = default;
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
  ~Impl() {
    if (eh_frame != nullptr) {
      dwarf_cfi_end(eh_frame);
    }
    if (dwarf != nullptr) {
      dwarf_end(dwarf);
    }
    if (elf != nullptr) {
      elf_end(elf);
    }
  }

  FramePtr find(LinkAddr pc) const {
    for (Dwarf_CFI* table : {eh_frame, debug_frame}) {
      Dwarf_Frame* frame = nullptr;
      if (table != nullptr && dwarf_cfi_addrframe(table, pc.value, &frame) == 0) {
        return FramePtr(frame);
      }
    }
    return nullptr;
  }
};

CfiTable::CfiTable() : impl_(std::make_unique<Impl>()) {}
CfiTable::CfiTable(CfiTable&&) noexcept = default;
CfiTable& CfiTable::operator=(CfiTable&&) noexcept = default;
CfiTable::~CfiTable() = default;

CfiTable CfiTable::from_file(std::shared_ptr<const File> file) {
  CfiTable table;
  Impl& impl = *table.impl_;
  impl.file = std::move(file);
  ByteView bytes = impl.file->bytes();
  elf_version(EV_CURRENT);
  // elf_memory wants a pointer to non-const, but a file opened like this is only read: conversion
  // in place would need a foreign byte order, which parse() has refused.
  impl.elf =
      elf_memory(const_cast<char*>(reinterpret_cast<const char*>(bytes.data())), bytes.size());
  if (impl.elf == nullptr) {
    throw bad_file(impl.file->name(), elf_errmsg(-1));
  }
  impl.eh_frame = dwarf_getcfi_elf(impl.elf);
  impl.dwarf = dwarf_begin_elf(impl.elf, DWARF_C_READ, nullptr);
  if (impl.dwarf != nullptr) {
    impl.debug_frame = dwarf_getcfi(impl.dwarf);
  }
  return table;
}

std::optional<FrameRules> CfiTable::find_rules(LinkAddr pc) const {
  FramePtr frame = impl_->find(pc);
  if (!frame) {
    return std::nullopt;
  }
  FrameRules rules;
  Dwarf_Op* ops = nullptr;
  size_t count = 0;
  if (dwarf_frame_cfa(frame.get(), &ops, &count) != 0 || count == 0) {
    return std::nullopt;
  }
  rules.cfa = copy_ops(ops, count);
  for (int i = 0; i < kDwarfRegisters; ++i) {
    auto rule = read_rule(frame.get(), i);
    if (!rule) {
      return std::nullopt;
    }
    rules.registers[i] = std::move(*rule);
  }
  bool signal = false;
  if (dwarf_frame_info(frame.get(), nullptr, nullptr, &signal) != kDwarfReturn) {
    return std::nullopt;
  }
  rules.signal_frame = signal;
  return rules;
}

std::optional<LinkRange> CfiTable::find_range(LinkAddr pc) const {
  if (!impl_->ranges) {
    impl_->ranges = read_frame_ranges(*impl_->file);
  }
  const auto& ranges = *impl_->ranges;
  auto after = std::upper_bound(ranges.begin(), ranges.end(), pc,
                                [](LinkAddr a, const LinkRange& r) { return a < r.start; });
  if (after == ranges.begin() || !std::prev(after)->contains(pc)) {
    return std::nullopt;
  }
  return *std::prev(after);
}

}  // namespace qp::elf
