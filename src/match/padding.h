// Padding between functions, which nothing ever executes.
#pragma once

#include <vector>

#include "base/address.h"
#include "base/bytes.h"
#include "match/proof.h"

namespace qp::match {

struct Padding {
  LinkAddr at;
  Bytes bytes;
};

// What lies wholly in `window` and is shown to be padding of at least `least` bytes. By address.
std::vector<Padding> find_padding(const Target& target, LinkRange window, uint64_t least);

// The part of the target from which a short jump at `at` leads, to `size` bytes at its end.
LinkRange in_reach_of_short_jump(LinkAddr at, uint64_t size);

}  // namespace qp::match
