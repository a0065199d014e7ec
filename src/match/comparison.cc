// Two pieces of machine code, side by side: one as the compiler wrote it, with relocations, and one
// as it runs in the target.
//
// They are never equal bytes. Fields with a relocation hold what the linker computed; instructions
// were rewritten by it (relax.cc); a jump to a neighbour function is short in the target, where the
// assembler knew the distance, and long in an object that has one section per function, and so
// everything behind it is shifted; padding differs. So the comparison goes by instruction. Each
// side skips its own NOPs, each instruction gets a number, and what must be equal is: the shape
// (operation, registers, addressing form), every field without a relocation, and the *number* of
// the instruction that a branch, a jump table or a label address leads to. Numbers are compared
// at the end, when both sides are known completely; that is a map in both directions, since each
// boundary belongs to one number.
//
// A field with a relocation says where the target has its symbol: S = field + P - A (psABI 1.0,
// section 4.4.1). A symbol that comes out with two values ends the proof. What the symbol means for
// the code is then compared as well, if it can't change at run time: strings, constants, tables.
// Cycles of data are cut by a list of pairs that were seen: they are equal if nothing in them
// differs. The list is worked off at the end instead of by recursion, so that depth of the data is
// no depth of our stack.
//
// The loop ends: it advances in the original with each step but for padding of the target, and that
// is limited. All reads go through TargetReader, which knows what is mapped.

#include "match/comparison.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "match/relax.h"

namespace qp::match {
namespace {

using elf::Atom;
using elf::AtomId;
using elf::AtomKind;
using elf::Ref;
using elf::RelocType;
using insn::Field;
using insn::Instruction;

// More padding than this between two instructions is no padding. Functions and loops are aligned to
// 64 bytes at most by default; -falign-loops can ask for more.
constexpr uint64_t kMostPadding = 512;
constexpr uint64_t kLongestInstruction = 15;
constexpr uint64_t kLongestSequence = 24;

int64_t trailing(const Ref& ref, uint64_t end) {
  return static_cast<int64_t>(end - ref.at);
}

bool is_got(RelocType type) {
  return type == RelocType::GOTPCREL || type == RelocType::GOTPCRELX ||
         type == RelocType::REX_GOTPCRELX;
}

}  // namespace

CodeWindow::CodeWindow(const TargetReader& memory, LinkAddr start, uint64_t expected)
    : memory_(memory), start_(start) {
  with(0, expected);
}

ByteView CodeWindow::with(uint64_t offset, uint64_t size) {
  while (!at_end_ && offset + size > bytes_.size()) {
    const uint64_t have = bytes_.size();
    const uint64_t wanted = std::max<uint64_t>(offset + size - have, 64);
    bytes_.resize(have + wanted);
    const size_t got = memory_.read_some(start_ + have, ByteSpan(bytes_).subspan(have));
    bytes_.resize(have + got);
    at_end_ = got < wanted;
  }
  return bytes_;
}

Comparison::Comparison(const elf::AtomGraph& graph, const Target& target, AtomId function)
    : graph_(&graph), target_(&target), root_(0) {
  root_ = root_of(function);
}

bool Comparison::give_up(std::string what) {
  return fail(std::move(what));
}

bool Comparison::fail(std::string what) {
  if (!difference_) {
    difference_ = CodeDifference{graph_->name_of(site_.atom), site_.at, site_.target_at,
                                 describe_site() + what};
  }
  return false;
}

std::string Comparison::describe_site() const {
  const Atom& atom = graph_->atoms[site_.atom];
  if (!site_.code) {
    return "";
  }
  const std::string original = insn::format(atom.bytes, site_.at, site_.at);
  Bytes code(kLongestInstruction);
  code.resize(target_->memory.read_some(site_.target_at, code));
  const std::string target = insn::decode(code, 0) ? insn::format(code, 0, site_.target_at.value)
                                                   : "no instruction (" + hex(code) + ")";
  return fmt::format("object: {}; target: {}: ", original, target);
}

bool Comparison::skip_padding(Pair& pair, Placed& placed) {
  const ByteView original(pair.atom.bytes);
  pair.skipped_original = pair.skipped_target = 0;
  while (pair.o < pair.atom.size) {
    const auto found = insn::decode(original, pair.o);
    if (!found) {
      site_ = {pair.id, pair.o, pair.base + pair.t, true};
      return fail("the object has no instruction here");
    }
    const bool has_ref =
        pair.ref < pair.atom.refs.size() && pair.atom.refs[pair.ref].at < pair.o + found->length;
    bool skip = found->is_nop && !has_ref;
    if (has_ref && descriptor_relaxed_ &&
        pair.atom.refs[pair.ref].type == RelocType::TLSDESC_CALL) {
      ++pair.ref;  // the call became a NOP, which the other side skips
      skip = true;
    }
    if (!skip) {
      break;
    }
    placed.original.push_back({pair.o, pair.number});
    pair.o += found->length;
    pair.skipped_original += found->length;
  }
  while (pair.skipped_target <= kMostPadding) {
    const ByteView code = pair.window.with(pair.t, kLongestInstruction);
    const auto found = insn::decode(code, pair.t);
    if (!found || !found->is_nop) {
      return true;
    }
    placed.target.push_back({pair.t, pair.number});
    pair.t += found->length;
    pair.skipped_target += found->length;
  }
  return true;  // so much padding is compared as code, and differs
}

bool Comparison::compare_function(AtomId id, LinkAddr at) {
  if (difference_) {
    return false;
  }
  const Atom& atom = graph_->atoms[id];
  site_ = {id, 0, at, false};
  if (atom.kind != AtomKind::Function || atom.bytes.size() != atom.size || atom.size == 0) {
    return fail("the object has no code for it");
  }
  if (!solve_address(atom.symbol, at)) {
    return false;
  }
  Placed placed{id, at, 0, {}, {}};
  CodeWindow window(target_->memory, at, atom.size + atom.size / 8 + kLongestSequence);
  Pair pair{atom, id, at, window};
  uint64_t end = 0;
  while (true) {
    if (!skip_padding(pair, placed)) {
      return false;
    }
    if (pair.o >= atom.size) {
      break;
    }
    site_ = {id, pair.o, at + pair.t, true};
    const auto original = insn::decode(atom.bytes, pair.o);
    QP_ASSERT(original.has_value());
    if (pair.o + original->length > atom.size) {
      return fail("the object's last instruction is cut off");
    }
    placed.original.push_back({pair.o, pair.number});
    placed.target.push_back({pair.t, pair.number});
    switch (take_relaxed(pair, *original)) {
      case Step::Failed:
        return false;
      case Step::Taken:
        break;
      case Step::General:
        if (!compare_instruction(pair, *original)) {
          return false;
        }
        break;
    }
    end = pair.t;
    ++pair.number;
  }
  if (pair.ref != atom.refs.size()) {
    return fail("a relocation lies behind the object's last instruction");
  }
  placed.size = end + std::min(pair.skipped_original, pair.skipped_target);
  // Where the original ends, and everything up to the end of the target's padding: "the end".
  placed.original.push_back({atom.size, pair.number});
  placed.target.push_back({pair.t, pair.number});
  if (!check_end(pair, placed)) {
    return false;
  }
  placed_.push_back(std::move(placed));
  return true;
}

// The symbol map may say that the target's function is longer or shorter than what was compared. A
// function whose code merely begins like the original's is another function.
bool Comparison::check_end(const Pair& pair, const Placed& placed) {
  const elf::AtomSymbol& symbol = graph_->symbol_of(pair.id);
  if (symbol.size == 0) {
    return true;  // assembly without .size; the target's has none, or the linker's guess
  }
  for (const MapEntry* entry : target_->symbols.at(pair.base)) {
    if (entry->size != 0 && entry->type == elf::SymbolType::Func && entry->name == symbol.name &&
        (entry->size > pair.t ||
         entry->size + pair.skipped_original + pair.skipped_target < placed.size)) {
      return fail(fmt::format("the target's function has {} bytes, the object's code matches {}",
                              entry->size, placed.size));
    }
  }
  return true;
}

Comparison::Step Comparison::take_relaxed(Pair& pair, const Instruction& original) {
  if (pair.ref >= pair.atom.refs.size() ||
      pair.atom.refs[pair.ref].at >= pair.o + original.length) {
    return Step::General;
  }
  const Ref& ref = pair.atom.refs[pair.ref];
  const ByteView window = pair.window.with(pair.t, kLongestSequence);
  const ByteView code = window.subspan(std::min<uint64_t>(pair.t, window.size()));
  const auto relaxed = find_relaxed(pair.atom.bytes, pair.o, ref, code, pair.base + pair.t);
  if (!relaxed) {
    descriptor_relaxed_ = descriptor_relaxed_ && ref.type != RelocType::GOTPC32_TLSDESC;
    return Step::General;
  }
  bool agrees = true;
  switch (relaxed->kind) {
    case Relaxed::Kind::Address:
      agrees = refer_to(ref.symbol, relaxed->delta, relaxed->address);
      break;
    case Relaxed::Kind::TpOffset:
      agrees = is_module_base(ref.symbol)
                   ? find_module_block(ModuleBlock::Relaxed, relaxed->value - relaxed->delta)
                   : refer_tp_offset(ref.symbol, relaxed->delta, relaxed->value);
      break;
    case Relaxed::Kind::TpOffsetSlot:
      agrees = refer_tp_slot(ref.symbol, relaxed->delta, relaxed->address);
      break;
    case Relaxed::Kind::ModuleBlock:
      agrees = find_module_block(ModuleBlock::Relaxed, relaxed->value);
      break;
  }
  if (!agrees) {
    return Step::Failed;
  }
  if (ref.type == RelocType::GOTPC32_TLSDESC) {
    descriptor_relaxed_ = true;
  }
  pair.o += relaxed->original_size;
  pair.t += relaxed->target_size;
  while (pair.ref < pair.atom.refs.size() && pair.atom.refs[pair.ref].at < pair.o) {
    ++pair.ref;  // the call of __tls_get_addr went with the sequence
  }
  return Step::Taken;
}

bool Comparison::compare_instruction(Pair& pair, const Instruction& a) {
  const ByteView code = pair.window.with(pair.t, kLongestInstruction);
  const auto b = insn::decode(code, pair.t);
  if (!b) {
    return fail("not an instruction");
  }
  if (insn::shape_of(pair.atom.bytes, pair.o, a) != insn::shape_of(code, pair.t, *b)) {
    return fail("another instruction");
  }
  size_t used = 0;
  if (!compare_field(pair, a, a.displacement, *b, b->displacement, used) ||
      !compare_field(pair, a, a.immediate, *b, b->immediate, used) ||
      !compare_field(pair, a, a.immediate2, *b, b->immediate2, used) ||
      !compare_field(pair, a, a.branch, *b, b->branch, used)) {
    return false;
  }
  const uint64_t end = pair.o + a.length;
  size_t there = 0;
  while (pair.ref < pair.atom.refs.size() && pair.atom.refs[pair.ref].at < end) {
    const RelocType type = pair.atom.refs[pair.ref].type;
    if (type != RelocType::None && type != RelocType::TLSDESC_CALL) {
      ++there;
    }
    ++pair.ref;
  }
  if (there != used) {
    return fail("a relocation is not on a field of the instruction");
  }
  pair.o = end;
  pair.t += b->length;
  return true;
}

bool Comparison::compare_field(Pair& pair, const Instruction& a, const Field& field_a,
                               const Instruction& b, const Field& field_b, size_t& used) {
  const Ref* ref = nullptr;
  for (size_t i = pair.ref; field_a.size != 0 && i < pair.atom.refs.size() &&
                            pair.atom.refs[i].at <= pair.o + field_a.offset;
       ++i) {
    if (pair.atom.refs[i].at == pair.o + field_a.offset &&
        pair.atom.refs[i].type != RelocType::None &&
        pair.atom.refs[i].type != RelocType::TLSDESC_CALL) {
      ref = &pair.atom.refs[i];
    }
  }
  const bool is_branch = &field_a == &a.branch;
  const bool is_relative = is_branch || (&field_a == &a.displacement && a.rip_relative);
  const LinkAddr target_end = pair.base + pair.t + b.length;
  const uint64_t end = pair.o + a.length;
  if (ref == nullptr) {
    if (!is_relative) {
      return field_a.value == field_b.value || fail("another value");
    }
    if (field_a.size == 0 && field_b.size == 0) {
      return true;
    }
    const uint64_t inside = end + static_cast<uint64_t>(field_a.value);
    if (inside > pair.atom.size) {
      return fail("the object refers to a place outside of the function without a relocation");
    }
    labels_.push_back({pair.id, inside, target_end + static_cast<uint64_t>(field_b.value), site_});
    return true;
  }
  ++used;
  const elf::RelocTraits* traits = elf::find_traits(ref->type);
  if (traits == nullptr || traits->width != field_a.size || field_b.size == 0 ||
      (!is_branch && field_b.size != field_a.size)) {
    return fail("a relocation does not fit the field");
  }
  if (is_relative) {
    const LinkAddr there = target_end + static_cast<uint64_t>(field_b.value);
    const int64_t delta = ref->addend + trailing(*ref, end);
    if (is_got(ref->type)) {
      return refer_by_slot(ref->symbol, delta, there);
    }
    switch (ref->type) {
      case RelocType::PC32:
      case RelocType::PLT32:
      case RelocType::PC16:
      case RelocType::PC8:
        return refer_to(ref->symbol, delta, there);
      case RelocType::GOTPC32:
        return solve_address(ref->symbol, there - static_cast<uint64_t>(delta));
      case RelocType::GOTTPOFF:
        return refer_tp_slot(ref->symbol, delta, there);
      case RelocType::TLSGD:
      case RelocType::TLSLD:
      case RelocType::GOTPC32_TLSDESC:
        return refer_dynamic_tls(ref->type, ref->symbol, delta, there);
      default:
        return fail(fmt::format("{} is not supported here", traits->name));
    }
  }
  switch (ref->type) {
    case RelocType::R64:
      return refer_by_pointer(ref->symbol, ref->addend, pair.base + pair.t + field_b.offset);
    case RelocType::R32:
      return refer_to(ref->symbol, ref->addend,
                      LinkAddr(static_cast<uint32_t>(static_cast<uint64_t>(field_b.value))));
    case RelocType::R32S:
    case RelocType::R16:
    case RelocType::R8:
      return refer_to(ref->symbol, ref->addend, LinkAddr(static_cast<uint64_t>(field_b.value)));
    case RelocType::PC64:
    case RelocType::PC32:
      return refer_to(ref->symbol, ref->addend,
                      pair.base + pair.t + field_b.offset + static_cast<uint64_t>(field_b.value));
    case RelocType::TPOFF32:
    case RelocType::TPOFF64:
      return refer_tp_offset(ref->symbol, ref->addend, field_b.value);
    case RelocType::DTPOFF32:
    case RelocType::DTPOFF64:
      module_offsets_.push_back({ref->symbol, field_b.value - ref->addend, site_});
      return true;
    case RelocType::SIZE32:
    case RelocType::SIZE64:
      return refer_size(ref->symbol, ref->addend, field_b.value);
    default:
      return fail(fmt::format("{} is not supported here", traits->name));
  }
}

std::vector<LinkAddr> Comparison::possible_starts(AtomId piece) const {
  std::vector<LinkAddr> starts;
  const auto add = [&](LinkAddr start) {
    if (std::find(starts.begin(), starts.end(), start) == starts.end()) {
      starts.push_back(start);
    }
  };
  const Atom& atom = graph_->atoms[piece];
  if (const auto known = solved_.find(atom.symbol);
      known != solved_.end() && known->second.kind == elf::BindingKind::Address) {
    return {known->second.address};
  }
  for (const Label& label : labels_) {
    if (label.function == piece && label.offset == 0) {
      return {label.target};
    }
  }
  // Before the label, short and long jumps may have shifted the code; its unwind record or its name
  // helps then.
  for (const Label& label : labels_) {
    if (label.function == piece) {
      add(label.target - label.offset);
      if (const auto frame = target_->symbols.frame_containing(label.target)) {
        add(frame->start);
      }
    }
  }
  for (const MapEntry* entry : target_->symbols.similar(graph_->name_of(piece))) {
    if (entry->type != elf::SymbolType::Tls) {
      add(entry->address);
    }
  }
  constexpr size_t kMostTried = 64;
  starts.resize(std::min(starts.size(), kMostTried));
  return starts;
}

std::optional<LinkRange> Comparison::range_of(AtomId function) const {
  for (const Placed& placed : placed_) {
    if (placed.function == function) {
      return LinkRange{placed.start, placed.start + placed.size};
    }
  }
  return std::nullopt;
}

std::vector<Solution> Comparison::solutions() const {
  std::vector<Solution> all;
  for (const auto& [symbol, binding] : solved_) {
    all.push_back({symbol, binding});
  }
  for (const elf::AtomSymbolId alias : aliases_) {
    const auto known = solved_.find(canonical(*graph_, alias));
    if (known == solved_.end()) {
      continue;
    }
    Solution solution{alias, known->second};
    if (solution.binding.kind == elf::BindingKind::Address) {
      solution.binding.address += graph_->symbols[alias].offset;
    } else if (solution.binding.kind == elf::BindingKind::TpOffset) {
      solution.binding.tp_offset += static_cast<int64_t>(graph_->symbols[alias].offset);
    }
    all.push_back(std::move(solution));
  }
  return all;
}

std::string place_of(const elf::Binding& binding) {
  switch (binding.kind) {
    case elf::BindingKind::Address:
      return fmt::format("at {:#x}", binding.address.value);
    case elf::BindingKind::TpOffset:
      return fmt::format("{:#x} from the thread pointer", binding.tp_offset);
    case elf::BindingKind::ModuleOffset:
    case elf::BindingKind::TlsSlot:
      return fmt::format("{:#x} in the TLS block", binding.tp_offset);
    case elf::BindingKind::Import:
      return "in another module";
    case elf::BindingKind::Unbound:
      break;
  }
  return "nowhere";
}

elf::AtomSymbolId canonical(const elf::AtomGraph& graph, elf::AtomSymbolId symbol) {
  const std::optional<AtomId> atom = graph.symbols[symbol].atom;
  return atom ? graph.atoms[*atom].symbol : symbol;
}

bool is_content_only(const elf::AtomGraph& graph, elf::AtomSymbolId symbol) {
  const std::optional<AtomId> atom = graph.symbols[symbol].atom;
  return atom && !elf::is_writable(graph.atoms[*atom].storage) &&
         (graph.atoms[*atom].kind == AtomKind::String ||
          graph.atoms[*atom].kind == AtomKind::Constant);
}

}  // namespace qp::match
