// Are two versions of a function the same?
//
// Most are, byte for byte with the same references, and for those that is checked without decoding
// anything. Otherwise both are decoded in lockstep. NOPs are skipped on either side: they are
// alignment, and alignment moves with every jump that gets longer. Of each pair of instructions the
// shape and every field must be equal, except that
//   - a field under a relocation is compared by what the reference means (Token), not by its bytes;
//   - a branch inside the function is compared by the ordinal of the instruction it leads to.
// Code that can't be decoded to its end is compared raw.
//
// What this must never do is to call a difference a layout accident. So everything that is not
// understood counts as different: a field that is half under a relocation, a branch to the middle
// of an instruction, a relocation on one side only.

#include "objdiff/compare.h"

#include <algorithm>

#include <fmt/format.h>

#include "insn/instruction.h"
#include "objdiff/explain.h"

namespace qp::objdiff {
namespace {

using elf::AtomId;

// Walks one version, NOPs skipped.
class Walker {
 public:
  Walker(const Side& side, AtomId id) : side_(side), id_(id), atom_(side.atom(id)) { settle(); }

  bool done() const { return at_ >= atom_.bytes.size(); }
  bool bad() const { return !done() && !current_; }
  uint64_t at() const { return at_; }
  const insn::Instruction& instruction() const { return current_->instruction; }
  const insn::Shape& shape() const { return current_->shape; }
  const elf::Atom& atom() const { return atom_; }
  AtomId id() const { return id_; }
  const Side& side() const { return side_; }

  // References whose field lies in the current instruction.
  std::pair<size_t, size_t> refs() {
    while (ref_ < atom_.refs.size() && atom_.refs[ref_].at < at_) {
      ++ref_;
    }
    size_t end = ref_;
    while (end < atom_.refs.size() && atom_.refs[end].at < at_ + instruction().length) {
      ++end;
    }
    return {ref_, end};
  }
  const elf::Ref* ref_at(const insn::Field& field) {
    auto [first, last] = refs();
    for (size_t n = first; n < last; ++n) {
      if (field.size != 0 && atom_.refs[n].at == at_ + field.offset) {
        return &atom_.refs[n];
      }
    }
    return nullptr;
  }
  void next() {
    at_ += instruction().length;
    settle();
  }

 private:
  void settle() {
    while (true) {
      current_ = insn::decode_shaped(atom_.bytes, at_);
      if (!current_ || !current_->instruction.is_nop) {
        return;
      }
      at_ += current_->instruction.length;
    }
  }

  const Side& side_;
  AtomId id_;
  const elf::Atom& atom_;
  uint64_t at_ = 0;
  size_t ref_ = 0;
  std::optional<insn::ShapedInstruction> current_;
};

class Comparison {
 public:
  Comparison(const Sides& sides, Contents& contents, AtomId original, AtomId patched)
      : sides_(sides),
        contents_(contents),
        a_(sides.original, original),
        b_(sides.patched, patched) {}

  std::optional<Difference> run() {
    if (quickly_equal()) {
      return std::nullopt;
    }
    if (!map(a_).complete() || !map(b_).complete()) {
      return Difference{0, 0, "code that can't be decoded differs"};
    }
    while (!a_.done() && !b_.done()) {
      if (!same_instruction()) {
        return difference();
      }
      a_.next();
      b_.next();
    }
    if (!a_.done() || !b_.done()) {
      return difference();
    }
    return std::nullopt;
  }

 private:
  const CodeMap& map(const Walker& w) const { return *w.side().code_map(w.id()); }

  Difference difference() const {
    return {a_.at(), b_.at(),
            fmt::format("{} → {}", describe_instruction(a_.side(), a_.id(), a_.at()),
                        describe_instruction(b_.side(), b_.id(), b_.at()))};
  }

  bool quickly_equal() {
    const elf::Atom &a = a_.atom(), &b = b_.atom();
    if (a.bytes != b.bytes || a.refs.size() != b.refs.size()) {
      return false;
    }
    for (size_t n = 0; n < a.refs.size(); ++n) {
      if (a.refs[n].at != b.refs[n].at || !same_reference(a.refs[n], b.refs[n], true)) {
        return false;
      }
    }
    return true;
  }

  bool same_reference(const elf::Ref& x, const elf::Ref& y, bool crossing) {
    return contents_.token(a_.side(), a_.id(), x, crossing) ==
           contents_.token(b_.side(), b_.id(), y, crossing);
  }

  bool same_field(const insn::Field& x, const insn::Field& y, bool crossing) {
    const elf::Ref *p = a_.ref_at(x), *q = b_.ref_at(y);
    if (p == nullptr && q == nullptr) {
      return x.value == y.value;
    }
    if (p == nullptr || q == nullptr) {
      return false;
    }
    // The field's own bytes are the linker's (RELA), but only as far as it writes them.
    const elf::RelocTraits* traits = elf::find_traits(p->type);
    bool whole = traits != nullptr && traits->width == x.size && x.size == y.size;
    return same_reference(*p, *q, crossing) && (whole || x.value == y.value);
  }

  // Every reference of the instruction sits on one of its fields, or on none of them on both sides
  // (TLSDESC_CALL marks a call).
  bool same_loose_references() {
    auto [a_first, a_last] = a_.refs();
    auto [b_first, b_last] = b_.refs();
    if (a_last - a_first != b_last - b_first) {
      return false;
    }
    auto loose = [](Walker& w, const elf::Ref& ref) {
      const insn::Instruction& i = w.instruction();
      for (const insn::Field* f : {&i.displacement, &i.immediate, &i.immediate2, &i.branch}) {
        if (f->size != 0 && ref.at == w.at() + f->offset) {
          return false;
        }
      }
      return true;
    };
    for (size_t n = 0; n < a_last - a_first; ++n) {
      const elf::Ref &x = a_.atom().refs[a_first + n], &y = b_.atom().refs[b_first + n];
      bool x_loose = loose(a_, x), y_loose = loose(b_, y);
      if (x_loose != y_loose ||
          (x_loose && (x.at - a_.at() != y.at - b_.at() || !same_reference(x, y, true)))) {
        return false;
      }
    }
    return true;
  }

  // Both lead to the same instruction of their function.
  bool same_place(int64_t x, int64_t y) const {
    auto p = map(a_).index_at(x), q = map(b_).index_at(y);
    return p && q ? *p == *q : !p && !q && x == y;
  }

  bool same_instruction() {
    const insn::Instruction &x = a_.instruction(), &y = b_.instruction();
    if (!(a_.shape() == b_.shape()) || !same_loose_references()) {
      return false;
    }
    auto at = [](const Walker& w) { return static_cast<int64_t>(w.at()); };
    if (x.branch.size != 0 && a_.ref_at(x.branch) == nullptr && b_.ref_at(y.branch) == nullptr) {
      if (!same_place(at(a_) + *x.branch_target(), at(b_) + *y.branch_target())) {
        return false;
      }
    } else if (!same_field(x.branch, y.branch, true)) {
      return false;
    }
    bool crossing = !(x.direct_access && y.direct_access);
    if (x.rip_relative && a_.ref_at(x.displacement) == nullptr &&
        b_.ref_at(y.displacement) == nullptr) {
      // The address of a place in the same function, which the assembler knew.
      if (!same_place(at(a_) + x.length + x.displacement.value,
                      at(b_) + y.length + y.displacement.value)) {
        return false;
      }
    } else if (!same_field(x.displacement, y.displacement, crossing)) {
      return false;
    }
    return same_field(x.immediate, y.immediate, true) &&
           same_field(x.immediate2, y.immediate2, true);
  }

  const Sides& sides_;
  Contents& contents_;
  Walker a_, b_;
};

}  // namespace

std::optional<Difference> compare_code(const Sides& sides, Contents& contents, AtomId original,
                                       AtomId patched) {
  auto type = [](const Side& s, AtomId id) { return s.graph.symbols[s.atom(id).symbol].type; };
  if ((type(sides.original, original) == elf::SymbolType::GnuIfunc) !=
      (type(sides.patched, patched) == elf::SymbolType::GnuIfunc)) {
    return Difference{0, 0, "an indirect function (IFUNC) on one side only"};
  }
  return Comparison(sides, contents, original, patched).run();
}

}  // namespace qp::objdiff
