// Where in a target the code of an object's functions can be, judged by the bytes that no linker
// changes. The only source of candidates for a target that lost its names.
#pragma once

#include <vector>

#include "elf/atom.h"
#include "match/proof.h"

namespace qp::match {

struct Places {
  std::vector<LinkAddr> at;  // ascending; each has still to be proven
  // False: there can be more, because the function has too few bytes of its own to be searched for,
  // or fits at more places than are worth a comparison (`at` is empty then).
  bool complete = false;
};

// One per function, same order. Reads all executable memory of the target once.
std::vector<Places> find_places(const elf::AtomGraph& original,
                                const std::vector<elf::AtomId>& functions, const Target& target);

}  // namespace qp::match
