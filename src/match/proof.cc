// A proof and what it says.
//
// P1: a function is replaced only if its live code was proven to be the original's. A checksum of
// the target's file would prove that the file is the one that somebody had in hand when the patch
// was made, and nothing about the source; a comparison of the code with what the compiler makes of
// the original source proves both, and it yields the addresses of everything that the code refers
// to, also of what no symbol table names any more. The comparison itself is in comparison.cc.
//
// A function can come in several pieces: GCC moves what it thinks unlikely into `f.cold`, placed
// far away, with jumps in both directions. The pieces are one unit: the function proves where the
// piece begins, the piece is compared there, and the jumps back have to meet the right
// instructions. If only the middle of a piece is mentioned, its start is guessed from that and from
// the symbol map, and each guess is tried on a copy of the state.

#include "match/proof.h"

#include <algorithm>

#include "match/comparison.h"

namespace qp::match {

Proof prove(const elf::AtomGraph& original, elf::AtomId function, LinkAddr candidate,
            const Target& target) {
  Comparison comparison(original, target, function);
  Proof proof;
  proof.proven = comparison.compare_function(function, candidate) && comparison.finish(false);
  proof.difference = comparison.difference();
  if (proof.proven) {
    proof.target_size = comparison.range_of(function)->size();
    proof.solutions = comparison.solutions();
  }
  return proof;
}

namespace {

// Finds and compares `pieces`; `comparison` has the function.
bool compare_pieces(Comparison& comparison, std::vector<elf::AtomId> pieces,
                    const elf::AtomGraph& original) {
  while (!pieces.empty()) {
    if (!comparison.compare_contents()) {  // the table of a switch can be all that mentions a piece
      return false;
    }
    std::optional<Comparison> failed;
    const auto found = std::find_if(pieces.begin(), pieces.end(), [&](elf::AtomId piece) {
      for (const LinkAddr start : comparison.possible_starts(piece)) {
        Comparison trial = comparison;
        if (trial.compare_function(piece, start) && trial.check_labels(false)) {
          comparison = std::move(trial);
          return true;
        }
        if (!failed) {
          failed = std::move(trial);
        }
      }
      return false;
    });
    if (found == pieces.end()) {
      if (failed) {
        comparison = std::move(*failed);
        return false;
      }
      return comparison.give_up("its piece " + original.name_of(pieces.front()) +
                                " was not found in the target");
    }
    pieces.erase(found);
  }
  return true;
}

}  // namespace

UnitProof prove_unit(const elf::AtomGraph& original, elf::AtomId function, LinkAddr candidate,
                     const Target& target) {
  std::vector<elf::AtomId> pieces;
  for (elf::AtomId id = 0; id < original.atoms.size(); ++id) {
    if (original.atoms[id].parent == function && id != function) {
      pieces.push_back(id);
    }
  }
  Comparison comparison(original, target, function);
  UnitProof proof;
  proof.proven = comparison.compare_function(function, candidate) &&
                 compare_pieces(comparison, pieces, original) && comparison.finish(true);
  proof.difference = comparison.difference();
  if (proof.proven) {
    proof.solutions = comparison.solutions();
    proof.ranges.push_back(*comparison.range_of(function));
    for (const elf::AtomId piece : pieces) {
      proof.ranges.push_back(*comparison.range_of(piece));
    }
  }
  return proof;
}

}  // namespace qp::match
