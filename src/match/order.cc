// What the place of a function says about it.
//
// Two twins in two files have equal code, but each has its own neighbours. If the functions before
// and behind `f` were found, and the room between them is about as large as what the object has
// between them, then `f` is in that room or the target does not have it: code elsewhere that looks
// like `f` is another function. And if everything that the object has there is proven in the room,
// one function behind the other without a gap, nothing else can be meant. That finds twins that lie
// side by side, and functions that are too small to be searched for.
//
// GCC and clang put functions that run at start-up, at the end, seldom or often into sections of
// their own, which linkers collect separately (gcc 12 varasm.c, default_function_section; binutils
// 2.40, default linker script); so order counts within one such kind of one
// object. Copies of COMDAT functions
// are not kept per object and have no place in the order, and neither have the cold pieces, which
// belong to their functions.

#include "match/order.h"

#include <string_view>
#include <utility>

#include "insn/instruction.h"

namespace qp::match {

using elf::AtomId;

namespace {

constexpr uint64_t kMostPadding = 64;

// ".text.unlikely.f" → ".text.unlikely"; "" for a section that says nothing about the order.
std::string kind_of(std::string_view section) {
  for (const std::string_view kind :
       {".text.unlikely", ".text.exit", ".text.startup", ".text.hot", ".text.unknown"}) {
    if (section == kind || section.starts_with(std::string(kind) + ".")) {
      return std::string(kind);
    }
  }
  return section.starts_with(".text") ? ".text" : std::string(section);
}

}  // namespace

Order::Order(Hypotheses& hypotheses) : hypotheses_(hypotheses) {
  const elf::AtomGraph& graph = hypotheses.graph();
  for (const Function& function : hypotheses.functions()) {
    const elf::Atom& atom = graph.atoms[function.id];
    if (!atom.comdat) {
      sequences_[{atom.object, kind_of(atom.section)}].push_back(function.id);
    }
  }
  for (const auto& [kind, sequence] : sequences_) {
    for (size_t i = 0; i < sequence.size(); ++i) {
      positions_[sequence[i]] = {&sequence, i};
    }
  }
}

std::optional<Order::Position> Order::position_of(AtomId id) const {
  const auto at = positions_.find(id);
  return at == positions_.end() ? std::nullopt : std::optional(at->second);
}

// `first` and `second` are the ranges of sequence[from] and sequence[to].
bool Order::are_neighbours(LinkRange first, LinkRange second, const Sequence& sequence, size_t from,
                           size_t to) const {
  if (second.start < first.end) {
    return false;
  }
  uint64_t most = kMostPadding;
  for (size_t i = from + 1; i < to; ++i) {
    const uint64_t size = hypotheses_.graph().atoms[sequence[i]].size;
    most += size + size / 4 + kMostPadding;
  }
  return static_cast<uint64_t>(second.start - first.end) <= most;
}

std::optional<LinkRange> Order::gap_around(const Function& function) const {
  const auto position = position_of(function.id);
  if (!position) {
    return std::nullopt;
  }
  const Sequence& sequence = *position->sequence;
  const auto choice = [&](size_t i) { return hypotheses_.find(sequence[i])->choice(); };
  size_t before = position->index, behind = position->index + 1;
  while (before > 0 && choice(before - 1) == nullptr) {
    --before;
  }
  while (behind < sequence.size() && choice(behind) == nullptr) {
    ++behind;
  }
  if (before == 0 || behind == sequence.size()) {
    return std::nullopt;
  }
  const LinkRange first = choice(before - 1)->proof.ranges.front();
  const LinkRange second = choice(behind)->proof.ranges.front();
  if (!are_neighbours(first, second, sequence, before - 1, behind)) {
    return std::nullopt;
  }
  return LinkRange{first.end, second.start};
}

std::set<AtomId> Order::find_misplaced() {
  std::set<AtomId> misplaced;
  for (Function& function : hypotheses_.functions()) {
    const Candidate* choice = function.choice();
    if (choice == nullptr || choice->named) {
      continue;
    }
    const std::optional<size_t> chosen = std::exchange(function.chosen, std::nullopt);
    const auto gap = gap_around(function);
    function.chosen = chosen;
    if (gap && !gap->contains(choice->at)) {
      misplaced.insert(function.id);
    }
  }
  return misplaced;
}

bool Order::is_padding(LinkRange range) const {
  if (range.size() > kMostPadding) {
    return false;
  }
  Bytes code(range.size());
  if (!hypotheses_.target().memory.try_read(range.start, code)) {
    return false;
  }
  for (uint64_t at = 0; at < code.size();) {
    const uint64_t size = insn::padding_at(code, at);
    if (size == 0) {
      return false;
    }
    at += size;
  }
  return true;
}

const Candidate* Order::only_place(AtomId id) const {
  const Function& function = *hypotheses_.find(id);
  return function.chosen ? function.choice() : function.complete ? function.only() : nullptr;
}

bool Order::is_beside_neighbour(const Function& function, const Candidate& candidate) {
  const auto position = position_of(function.id);
  if (!position) {
    return false;
  }
  const Sequence& sequence = *position->sequence;
  const LinkRange here = candidate.proof.ranges.front();
  const auto fills = [&](size_t from, size_t to, LinkRange gap) {
    return gap.start <= gap.end && fill_gap(sequence, from, to, gap).has_value();
  };
  for (size_t before = position->index; before > 0; --before) {
    if (const Candidate* other = only_place(sequence[before - 1])) {
      if (fills(before, position->index, {other->proof.ranges.front().end, here.start})) {
        return true;
      }
      break;
    }
  }
  for (size_t behind = position->index + 1; behind < sequence.size(); ++behind) {
    if (const Candidate* other = only_place(sequence[behind])) {
      return fills(position->index + 1, behind, {here.end, other->at});
    }
  }
  return false;
}

// Where the next function begins, if between it and `end` there is only padding.
std::optional<LinkAddr> Order::start_behind(LinkAddr end) const {
  Bytes code(kMostPadding + 16);
  code.resize(hypotheses_.target().memory.read_some(end, code));
  const SymbolMap& symbols = hypotheses_.target().symbols;
  for (uint64_t at = 0; at < code.size() && at <= kMostPadding;) {
    const auto frame = symbols.frame_containing(end + at);
    if (frame && frame->start == end + at) {
      return end + at;
    }
    const uint64_t size = insn::padding_at(code, at);
    if (size == 0) {
      return frame ? std::nullopt : std::optional(end + at);
    }
    at += size;
  }
  return std::nullopt;
}

std::optional<LinkAddr> Order::expected_place(const Function& function) const {
  const auto position = position_of(function.id);
  if (!position || position->index == 0) {
    return std::nullopt;
  }
  const Candidate* before = hypotheses_.find((*position->sequence)[position->index - 1])->choice();
  return before == nullptr ? std::nullopt : start_behind(before->proof.ranges.front().end);
}

std::optional<std::vector<std::pair<AtomId, LinkAddr>>> Order::fill_gap(const Sequence& sequence,
                                                                        size_t from, size_t to,
                                                                        LinkRange gap) {
  std::vector<std::pair<AtomId, LinkAddr>> filled;
  LinkAddr end = gap.start;
  for (size_t i = from; i < to; ++i) {
    const auto at = start_behind(end);
    if (!at || gap.end <= *at) {
      return std::nullopt;
    }
    Function& function = *hypotheses_.find(sequence[i]);
    hypotheses_.add_candidate(function, *at);
    const Candidate& candidate =
        *std::find_if(function.candidates.begin(), function.candidates.end(),
                      [&](const Candidate& c) { return c.at == *at; });
    if (!candidate.alive || gap.end < candidate.proof.ranges.front().end) {
      return std::nullopt;
    }
    filled.emplace_back(sequence[i], *at);
    end = candidate.proof.ranges.front().end;
  }
  if (gap.end < end || !is_padding({end, gap.end})) {
    return std::nullopt;
  }
  return filled;
}

std::vector<std::pair<AtomId, LinkAddr>> Order::fill_gaps() {
  std::vector<std::pair<AtomId, LinkAddr>> found;
  for (const auto& [kind, sequence] : sequences_) {
    for (size_t i = 0; i < sequence.size();) {
      const Function& function = *hypotheses_.find(sequence[i]);
      size_t behind = i + 1;
      if (!function.chosen) {
        while (behind < sequence.size() && !hypotheses_.find(sequence[behind])->chosen) {
          ++behind;
        }
        if (const auto gap = gap_around(function)) {
          const auto filled = fill_gap(sequence, i, behind, *gap);
          if (filled) {
            found.insert(found.end(), filled->begin(), filled->end());
          }
        }
      }
      i = behind;
    }
  }
  return found;
}

std::vector<std::pair<AtomId, AtomId>> Order::chosen_neighbours() const {
  std::vector<std::pair<AtomId, AtomId>> pairs;
  for (const auto& [kind, sequence] : sequences_) {
    std::optional<size_t> last;
    for (size_t i = 0; i < sequence.size(); ++i) {
      const Candidate* choice = hypotheses_.find(sequence[i])->choice();
      if (choice == nullptr) {
        continue;
      }
      if (last) {
        const Candidate* before = hypotheses_.find(sequence[*last])->choice();
        if (are_neighbours(before->proof.ranges.front(), choice->proof.ranges.front(), sequence,
                           *last, i)) {
          pairs.emplace_back(sequence[*last], sequence[i]);
        }
      }
      last = i;
    }
  }
  return pairs;
}

}  // namespace qp::match
