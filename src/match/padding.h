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

}  // namespace qp::match
