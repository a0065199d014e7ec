// The functions of one object lie in the target in the order in which the compiler wrote them.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "match/hypotheses.h"

namespace qp::match {

// Reasoning by neighbours, for targets without names. Compilers write the functions of an object
// one behind the other, linkers keep the content of a section together, and sections of one kind in
// the order of the object. A program can be linked otherwise (sorted sections, folded functions);
// so nothing is concluded from an order that the chosen functions on both sides do not show.
class Order {
 public:
  explicit Order(Hypotheses& hypotheses);

  // The target's room for what the object has between two chosen functions, the nearest on both
  // sides of `function`. Nullopt if there are none, or they are not where neighbours would be.
  std::optional<LinkRange> gap_around(const Function& function) const;
  // Where `function` should begin, if the function before it was chosen.
  std::optional<LinkAddr> expected_place(const Function& function) const;
  // Chosen functions without a name that are not in the room that their neighbours leave for them.
  std::set<elf::AtomId> find_misplaced();
  // Whether the nearest function before it or behind it that has only one place left is where it
  // would be if `function` is at `candidate`: everything that the object has between them is proven
  // there, one function behind the other.
  bool is_beside_neighbour(const Function& function, const Candidate& candidate);
  // Fills gaps: if all that the object has between two chosen functions is proven in the target
  // from one to the other, without a byte but padding left over, then this is what is there.
  // Returns what it found, and adds these candidates.
  std::vector<std::pair<elf::AtomId, LinkAddr>> fill_gaps();
  // Pairs of chosen functions that are neighbours in both.
  std::vector<std::pair<elf::AtomId, elf::AtomId>> chosen_neighbours() const;

 private:
  using Sequence = std::vector<elf::AtomId>;  // functions of one kind of section, in order
  struct Position {
    const Sequence* sequence;
    size_t index;
  };
  std::optional<Position> position_of(elf::AtomId id) const;
  bool are_neighbours(LinkRange first, LinkRange second, const Sequence& sequence, size_t from,
                      size_t to) const;
  std::optional<LinkAddr> start_behind(LinkAddr end) const;
  bool is_padding(LinkRange range) const;
  // Functions [from, to) of the sequence; their places, or nothing.
  std::optional<std::vector<std::pair<elf::AtomId, LinkAddr>>> fill_gap(const Sequence& sequence,
                                                                        size_t from, size_t to,
                                                                        LinkRange gap);
  const Candidate* only_place(elf::AtomId id) const;

  Hypotheses& hypotheses_;
  std::map<std::pair<uint32_t, std::string>, Sequence> sequences_;  // by object, kind of section
  std::map<elf::AtomId, Position> positions_;
};

}  // namespace qp::match
