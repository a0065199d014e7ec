// The state of one proof: what was compared so far, and what it solved.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "elf/atom.h"
#include "elf/binding.h"
#include "insn/instruction.h"
#include "match/proof.h"

namespace qp::match {

// The bytes of the target from one address on, read piece by piece as the comparison goes on.
class CodeWindow {
 public:
  CodeWindow(const TargetReader& memory, LinkAddr start, uint64_t expected);
  // Everything read so far, which includes [offset, offset + size) if that is mapped.
  ByteView with(uint64_t offset, uint64_t size);

 private:
  const TargetReader& memory_;
  LinkAddr start_;
  Bytes bytes_;
  bool at_end_ = false;
};

// A value (it is copied to try a piece at a place and to forget about it if that fails). The first
// thing that does not agree ends it: every call returns false from then on, and difference() says
// what it was.
class Comparison {
 public:
  // `function`: the function or the piece that the proof is about.
  Comparison(const elf::AtomGraph& graph, const Target& target, elf::AtomId function);

  // Instruction by instruction. What the code refers to is solved or noted.
  bool compare_function(elf::AtomId id, LinkAddr at);
  // Compares the data that the code compared so far refers to.
  bool compare_contents();
  // The same, and then checks that all references to places inside functions agree with the
  // comparison of these functions. `whole_unit`: every piece was compared, so nothing may stay open.
  bool finish(bool whole_unit);

  // Where `piece` may begin according to what refers to it, the likeliest first.
  std::vector<LinkAddr> possible_starts(elf::AtomId piece) const;
  // The labels in functions compared so far agree. Part of finish().
  bool check_labels(bool whole_unit);

  const std::optional<CodeDifference>& difference() const { return difference_; }
  std::vector<Solution> solutions() const;
  std::optional<LinkRange> range_of(elf::AtomId function) const;
  bool give_up(std::string what);  // for the callers' own reasons

 private:
  // An instruction pair or a place in data, for messages.
  struct Site {
    elf::AtomId atom = 0;
    uint64_t at = 0;
    LinkAddr target_at;
    bool code = false;
  };
  // A place in a function of the unit that something refers to.
  struct Label {
    elf::AtomId function;
    uint64_t offset;
    LinkAddr target;
    Site site;
  };
  // Boundaries of instructions; padding has the number of the instruction that follows it.
  struct Boundary {
    uint64_t offset;
    uint32_t number;
  };
  struct Placed {
    elf::AtomId function;
    LinkAddr start;
    uint64_t size = 0;  // in the target
    std::vector<Boundary> original, target;
  };
  // A cursor through both sides of a function.
  struct Pair {
    const elf::Atom& atom;
    elf::AtomId id;
    LinkAddr base;
    CodeWindow& window;
    uint64_t o = 0, t = 0;
    size_t ref = 0;
    uint32_t number = 0;
    uint64_t skipped_original = 0, skipped_target = 0;  // padding before the current instruction
  };
  // How the unit gets its module's TLS block: nothing seen, read from the thread pointer, by call.
  enum class ModuleBlock : uint8_t { Unknown, Relaxed, Called };
  enum class Step : uint8_t { Failed, General, Taken };

  // comparison.cc
  bool fail(std::string what);
  std::string describe_site() const;
  bool skip_padding(Pair& pair, Placed& placed);
  Step take_relaxed(Pair& pair, const insn::Instruction& original);
  bool compare_instruction(Pair& pair, const insn::Instruction& original);
  bool compare_field(Pair& pair, const insn::Instruction& a, const insn::Field& field_a,
                     const insn::Instruction& b, const insn::Field& field_b, size_t& used);
  bool check_end(const Pair& pair, const Placed& placed);

  // content.cc
  bool compare_content(elf::AtomId id, LinkAddr base);
  bool compare_data_ref(const elf::Atom& atom, const elf::Ref& ref, LinkAddr base, ByteView target);
  bool resolve_module_offsets(bool whole_unit);

  // resolve.cc: each takes "the target has symbol + delta here" and solves or checks the symbol.
  bool refer_to(elf::AtomSymbolId symbol, int64_t delta, LinkAddr there);
  bool refer_by_pointer(elf::AtomSymbolId symbol, int64_t delta, LinkAddr place);
  bool refer_by_slot(elf::AtomSymbolId symbol, int64_t delta, LinkAddr slot);
  bool refer_tp_offset(elf::AtomSymbolId symbol, int64_t delta, int64_t value);
  bool refer_tp_slot(elf::AtomSymbolId symbol, int64_t delta, LinkAddr slot);
  bool refer_dynamic_tls(elf::RelocType type, elf::AtomSymbolId symbol, int64_t delta,
                         LinkAddr slot);
  // `offset` from the thread pointer: what offsets in the module's block count from.
  bool find_module_block(ModuleBlock how, int64_t offset = 0);
  bool is_module_base(elf::AtomSymbolId symbol) const;
  bool refer_module_offset(elf::AtomSymbolId symbol, int64_t value);
  bool refer_size(elf::AtomSymbolId symbol, int64_t delta, int64_t value);
  bool refer_import(elf::AtomSymbolId symbol, const ImportEntry& import, LinkAddr stub);
  bool solve_address(elf::AtomSymbolId symbol, LinkAddr address);
  bool solve(elf::AtomSymbolId symbol, elf::Binding binding);
  bool check_name(const elf::AtomSymbol& symbol, LinkAddr address);
  bool is_named(const elf::AtomSymbol& symbol, LinkAddr address) const;
  bool has_alias_named(const elf::AtomSymbol& symbol, LinkAddr address) const;
  bool check_tls_name(const elf::AtomSymbol& symbol, int64_t block_offset);
  std::optional<LinkAddr> read_address(LinkAddr place) const;
  elf::AtomId root_of(elf::AtomId function) const;

  const elf::AtomGraph* graph_;
  const Target* target_;
  elf::AtomId root_;
  Site site_;
  std::optional<CodeDifference> difference_;
  std::map<elf::AtomSymbolId, elf::Binding> solved_;  // by canonical symbol
  std::set<elf::AtomSymbolId> aliases_;               // symbols inside atoms that were referred to
  std::vector<Label> labels_;
  std::vector<Placed> placed_;
  std::vector<std::pair<elf::AtomId, LinkAddr>> contents_;  // to be compared
  std::vector<Site> content_sites_;                         // parallel: who asked
  std::set<std::pair<elf::AtomId, LinkAddr>> contents_seen_;
  struct ModuleOffset {
    elf::AtomSymbolId symbol;
    int64_t value;  // of S alone
    Site site;
  };
  std::vector<ModuleOffset> module_offsets_;
  ModuleBlock module_block_ = ModuleBlock::Unknown;
  int64_t module_block_offset_ = 0;
  bool descriptor_relaxed_ = false;
};

// "at 0x1234": where a binding says that something is, for messages.
std::string place_of(const elf::Binding& binding);
// The symbol that stands for an atom; an undefined symbol stands for itself.
elf::AtomSymbolId canonical(const elf::AtomGraph& graph, elf::AtomSymbolId symbol);
// Of equal content wherever it is: its address identifies nothing.
bool is_content_only(const elf::AtomGraph& graph, elf::AtomSymbolId symbol);

}  // namespace qp::match
