// Where a mutant's difference lies, worked out from sections and symbols alone, so that the diff is
// judged by something that knows nothing of atoms: in code the function around it, in .eh_frame the
// function that the record describes, in data every function with a path of relocations to that
// section.
//
// The few mutants that mean the same as the original are no mutants: bits that a relocation
// overwrites, padding, and branches to a NOP before the same instruction.

#include "mutator.h"

#include <algorithm>

#include <fmt/format.h>

#include "insn/instruction.h"
#include "objdiff/code_map.h"
#include "objdiff/contents.h"

namespace qp::pairs {

namespace {

bool is_function(const elf::Symbol& s) {
  return s.type == elf::SymbolType::Func || s.type == elf::SymbolType::GnuIfunc;
}

// Start of the record of .eh_frame that contains `at`.
uint64_t record_start(ByteView frames, uint64_t at) {
  uint64_t start = 0;
  while (start + 4 <= frames.size()) {
    uint64_t end = start + 4 + load<uint32_t>(frames, start);
    if (at < end) {
      break;
    }
    start = end;
  }
  return start;
}

}  // namespace

Mutator::Mutator(Bytes object, uint64_t seed)
    : object_(std::move(object)),
      file_(elf::File::parse(Bytes(object_), "original.o")),
      random_(seed) {
  for (const elf::Section& s : file_.sections()) {
    if (s.has(elf::kAlloc) && s.type != elf::SectionType::Note &&
        s.type != elf::SectionType::NoBits && s.size != 0) {
      content_.push_back(&s);
    }
    if (s.type == elf::SectionType::Rela && s.size != 0 && !s.name.starts_with(".rela.debug")) {
      relocations_.push_back(&s);
    }
  }
}

std::optional<Mutant> Mutator::next() {
  return pick(3) == 0 ? relocation_mutant() : content_mutant();
}

std::set<std::string> Mutator::symbols_at(uint32_t section, uint64_t at) const {
  std::set<std::string> out;
  for (const elf::Symbol& s : file_.symbols()) {
    if (s.section == section && !s.name.empty() && s.value <= at &&
        at < s.value + std::max<uint64_t>(s.size, 1)) {
      out.insert(s.name);
    }
  }
  return out;
}

void Mutator::blame(Mutant& mutant, const elf::Section& section, uint64_t at) const {
  mutant.names.insert(section.name);
  mutant.names.merge(symbols_at(section.index, at));
  if (section.name == ".eh_frame") {
    blame_frame(mutant, section, at);
    return;
  }
  for (const elf::Symbol& s : file_.symbols()) {
    if (is_function(s) && s.section == section.index && s.value <= at && at < s.value + s.size) {
      mutant.units.insert(s.name);
    }
  }
  if (!section.has(elf::kExec)) {
    mutant.anonymous = true;
    blame_data(mutant, section);
  }
}

// An FDE describes the function of its first relocation; a CIE is everybody's.
void Mutator::blame_frame(Mutant& mutant, const elf::Section& section, uint64_t at) const {
  ByteView frames = file_.content(section);
  uint64_t start = record_start(frames, at);
  bool common = start + 8 > frames.size() || load<uint32_t>(frames, start + 4) == 0;
  std::vector<elf::Relocation> relocations = file_.relocations(section);
  for (const elf::Symbol& s : file_.symbols()) {
    bool described = common;
    for (const elf::Relocation& r : relocations) {
      const elf::Symbol& to = file_.symbols()[r.symbol];
      described = described || (r.offset == start + 8 && to.section == s.section &&
                                to.value + static_cast<uint64_t>(r.addend) >= s.value &&
                                to.value + static_cast<uint64_t>(r.addend) < s.value + s.size);
    }
    if (is_function(s) && s.defined() && described) {
      mutant.units.insert(s.name);
    }
  }
}

// Everybody who can get there through relocations.
void Mutator::blame_data(Mutant& mutant, const elf::Section& section) const {
  std::set<uint32_t> reached = {section.index}, open = reached;
  while (!open.empty()) {
    uint32_t to = *open.begin();
    open.erase(open.begin());
    for (const elf::Section& s : file_.sections()) {
      if (!s.has(elf::kAlloc)) {
        continue;
      }
      for (const elf::Relocation& r : file_.relocations(s)) {
        if (file_.symbols()[r.symbol].section != to) {
          continue;
        }
        for (const elf::Symbol& user : file_.symbols()) {
          bool holds = user.section == s.index && user.value <= r.offset &&
                       r.offset < user.value + user.size;
          if (holds && is_function(user)) {
            mutant.units.insert(user.name);
          } else if (holds) {
            mutant.names.insert(user.name);
          }
        }
        if (s.name == ".eh_frame") {
          blame_frame(mutant, s, r.offset);
        } else if (!s.has(elf::kExec) && reached.insert(s.index).second) {
          open.insert(s.index);
        }
      }
    }
  }
}

bool Mutator::is_relocated(const elf::Section& section, uint64_t at) const {
  for (const elf::Relocation& r : file_.relocations(section)) {
    const elf::RelocTraits* t = elf::find_traits(r.type);
    if (t != nullptr && at >= r.offset && at < r.offset + t->width) {
      return true;
    }
  }
  return false;
}

bool Mutator::is_padding(const elf::Section& section, uint64_t at) const {
  for (const elf::Symbol& s : file_.symbols()) {
    if (s.section == section.index && s.value <= at &&
        (at < s.value + s.size || s.name.starts_with(".L"))) {
      return false;
    }
  }
  // Merged strings of COMDAT groups and LSDAs have no symbols.
  return !section.has(elf::kMerge) && !section.name.starts_with(".gcc_except_table");
}

// The same instruction as before, with a branch that leads to the same one.
bool Mutator::same_instruction(const elf::Section& section, uint64_t at,
                               const Bytes& mutated) const {
  objdiff::CodeMap map(file_.content(section));
  auto start = map.instruction_start(at);
  auto was = start ? insn::decode(file_.content(section), *start) : std::nullopt;
  if (!was || was->is_nop) {
    return true;
  }
  auto is = insn::decode(ByteView(mutated).subspan(section.offset.value, section.size), *start);
  return is && was->branch.size != 0 && is->branch.size == was->branch.size &&
         is->operation == was->operation &&
         map.index_at(static_cast<int64_t>(*start) + *was->branch_target()) ==
             map.index_at(static_cast<int64_t>(*start) + *is->branch_target());
}

std::optional<Mutant> Mutator::content_mutant() {
  const elf::Section& s = *content_[pick(content_.size())];
  uint64_t at = pick(s.size);
  auto bit = static_cast<unsigned>(pick(8));
  if (is_relocated(s, at)) {
    return std::nullopt;
  }
  Mutant out{object_, fmt::format("{}+{:#x} bit {}", s.name, at, bit), {}, {}};
  out.object[s.offset.value + at] ^= std::byte{1} << bit;
  bool frames = s.name == ".eh_frame";
  if (s.has(elf::kExec) ? same_instruction(s, at, out.object)
                        : (frames ? is_frame_padding(at) : is_padding(s, at))) {
    return std::nullopt;
  }
  blame(out, s, at);
  return out;
}

// The zero bytes at the end of a record: another rule there is a difference, but `advance by 0` and
// rules of registers that nobody has are none.
bool Mutator::is_frame_padding(uint64_t at) const {
  const elf::Section& s = *file_.find_section(".eh_frame");
  ByteView frames = file_.content(s);
  uint64_t start = record_start(frames, at);
  if (start + 4 > frames.size()) {
    return true;
  }
  uint64_t end = start + 4 + load<uint32_t>(frames, start);
  for (uint64_t n = at; n < end; ++n) {
    if (frames[n] != std::byte{0}) {
      return false;
    }
  }
  return at >= start + 4;
}

// A table entry that leads to the NOPs before the same instruction.
bool Mutator::same_code(const elf::Section& of, const elf::Relocation& r, int64_t addend) const {
  const elf::Symbol& to = file_.symbols()[r.symbol];
  if (of.has(elf::kExec) || to.section >= file_.sections().size() ||
      !file_.sections()[to.section].has(elf::kExec)) {
    return false;
  }
  objdiff::CodeMap map(file_.content(file_.sections()[to.section]));
  auto base = static_cast<int64_t>(to.value);
  base -= r.type == elf::RelocType::PC32 ? static_cast<int64_t>(r.offset) : 0;
  auto was = map.index_at(base + r.addend);
  return was && was == map.index_at(base + addend);
}

std::optional<Mutant> Mutator::relocation_mutant() {
  const elf::Section& s = *relocations_[pick(relocations_.size())];
  const elf::Section& of = file_.sections()[s.info];
  auto list = file_.relocations(of);
  uint64_t n = pick(s.size / 24), at = s.offset.value + n * 24;
  const elf::Relocation& r = list[n];
  Mutant out{object_, "", {}, {}};
  blame(out, of, r.offset);
  uint64_t info = load<uint64_t>(out.object, at + 8);
  const elf::Symbol& was = file_.symbols()[r.symbol];
  out.names.insert(was.name);
  out.names.merge(symbols_at(was.section, was.value));
  switch (pick(3)) {
    case 0: {
      auto addend = r.addend + (pick(2) == 0 ? 1 : -1) * static_cast<int64_t>(1 + pick(16));
      if (same_code(of, r, addend)) {
        return std::nullopt;
      }
      store(ByteSpan(out.object), at + 16, addend);
      out.what = fmt::format("{} #{} addend {} → {}", s.name, n, r.addend, addend);
      return out;
    }
    case 1: {
      auto type = static_cast<elf::RelocType>(1 + pick(42));
      if (objdiff::reference_group(type) == objdiff::reference_group(r.type)) {
        return std::nullopt;
      }
      store(ByteSpan(out.object), at + 8, (info >> 32 << 32) | static_cast<uint32_t>(type));
      out.what = fmt::format("{} #{} type {}", s.name, n, static_cast<int>(type));
      return out;
    }
    default: {
      uint64_t symbol = 1 + pick(file_.symbols().size() - 1);
      const elf::Symbol& is = file_.symbols()[symbol];
      bool same = is.section == was.section && is.value == was.value && is.defined();
      if (same || symbol == r.symbol || is.type == elf::SymbolType::File) {
        return std::nullopt;
      }
      store(ByteSpan(out.object), at + 8, symbol << 32 | (info & 0xffffffff));
      out.what = fmt::format("{} #{} symbol {} → {}", s.name, n, was.name, is.name);
      out.names.insert(is.name);
      out.names.merge(symbols_at(is.section, is.value));
      if (of.name == ".eh_frame" && is.defined() && is.section < file_.sections().size()) {
        blame(out, file_.sections()[is.section], is.value);  // it would describe that one instead
      }
      return out;
    }
  }
}

}  // namespace qp::pairs
