// Chooses the distance between a target and its image.
#pragma once

#include <optional>
#include <vector>

#include "base/address.h"

namespace qp::link {

struct PlacementRequest {
  LinkRange target;             // everything of the target that the image may refer to
  uint64_t size = 0;            // bytes, page multiple
  std::vector<LiveRange> also;  // what else it may refer to
  LoadBias bias;
  bool low_2g = false;              // the patch has 32-bit absolute relocations
  bool far = false;                 // it reaches the target from anywhere (link/far.h)
  std::vector<LiveRange> occupied;  // mappings of the process, sorted
  std::vector<LiveRange> avoid;     // room where heap and stacks will grow
};

// Deterministic in (target, size, low_2g) as far as the occupied ranges allow, so that processes of
// one target get the same distance. Below a PIE (its heap grows above); for a non-PIE near the top
// of the low 2 GiB; where all that is taken, in any gap. Every byte of the image is within ±2 GiB
// (less a guard of 1 MiB) of every byte of the target, unless it is far. Nullopt: no room.
std::optional<LinkAddr> choose_place(const PlacementRequest& request);

// Whether every byte of the image is that near to every byte of the target.
bool is_near(LinkRange target, LinkRange image, LoadBias bias);

}  // namespace qp::link
