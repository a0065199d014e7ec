// Instruction boundaries, and what a PC-relative addend means.
//
// The psABI gives the field the value S + A − P, with P the place of the *field*. The processor
// adds the address of the *next instruction*. So the assembler puts the distance between the two
// into A: −4 for a field at the end, −5 or −8 if an immediate follows (`movl $0, x(%rip)`). Through
// a section symbol, A also holds the place of the thing in its section, and the only way to tell
// x−4 from the thing before x is to know where the instruction ends. This is why a differ needs a
// decoder.
//
// In a jump table the code that reads an entry adds the start of the table, so the assembler puts
// (r_offset − table start) into A; the entry for case 64 of `.text.f` can point far behind the
// function if one forgets that.

#include "objdiff/code_map.h"

#include <algorithm>

#include "insn/instruction.h"

namespace qp::objdiff {

CodeMap::CodeMap(ByteView code) : size_(code.size()) {
  uint64_t at = 0;
  while (at < code.size()) {
    auto i = insn::decode(code, at);
    if (!i) {
      complete_ = false;
      break;
    }
    entries_.push_back({static_cast<uint32_t>(at), count_, i->branch.size != 0});
    if (!i->is_nop) {
      ++count_;
    }
    at += i->length;
  }
  decoded_ = at;
}

const CodeMap::Entry* CodeMap::find(uint64_t at) const {
  if (at >= decoded_) {
    return nullptr;
  }
  auto it = std::upper_bound(entries_.begin(), entries_.end(), at,
                             [](uint64_t value, const Entry& e) { return value < e.offset; });
  return it == entries_.begin() ? nullptr : &*std::prev(it);
}

std::optional<uint64_t> CodeMap::instruction_end(uint64_t at) const {
  const Entry* e = find(at);
  if (e == nullptr) {
    return std::nullopt;
  }
  return e == &entries_.back() ? decoded_ : (e + 1)->offset;
}

std::optional<uint64_t> CodeMap::instruction_start(uint64_t at) const {
  const Entry* e = find(at);
  return e == nullptr ? std::nullopt : std::optional<uint64_t>(e->offset);
}

bool CodeMap::is_direct_branch(uint64_t at) const {
  const Entry* e = find(at);
  return e != nullptr && e->branch;
}

std::optional<uint32_t> CodeMap::index_at(int64_t offset) const {
  if (offset >= 0 && static_cast<uint64_t>(offset) == decoded_ && complete_) {
    return count_;
  }
  const Entry* e = offset < 0 ? nullptr : find(static_cast<uint64_t>(offset));
  if (e == nullptr || e->offset != static_cast<uint64_t>(offset)) {
    return std::nullopt;
  }
  return e->index;
}

bool is_lsda(const elf::Atom& atom) {
  return atom.section.starts_with(".gcc_except_table");
}

int64_t target_offset(const elf::Ref& ref, const elf::Atom& container, const CodeMap* map) {
  const elf::RelocTraits* traits = elf::find_traits(ref.type);
  if (traits == nullptr || !traits->pc_relative) {
    return ref.addend;
  }
  if (container.storage == elf::Storage::Text) {
    std::optional<uint64_t> end = map == nullptr ? std::nullopt : map->instruction_end(ref.at);
    return ref.addend + static_cast<int64_t>(end.value_or(ref.at + traits->width) - ref.at);
  }
  return is_lsda(container) ? ref.addend : ref.addend - static_cast<int64_t>(ref.at);
}

}  // namespace qp::objdiff
