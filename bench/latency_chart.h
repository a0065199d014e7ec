// Percentile curves as a picture.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace bench {

struct Curve {
  std::string name, colour;
  std::vector<uint32_t> sorted_ns;  // ascending
};

// An SVG document: latency (logarithmic) over the share of requests (in nines), a line per curve.
std::string latency_chart(const std::vector<Curve>& curves);

}  // namespace bench
