// Both axes are logarithmic: what interests is how rare the slow requests are, so the horizontal one
// counts nines (90 %, 99 %, 99.9 %, …), as latency histograms are usually drawn.

#include "latency_chart.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

namespace bench {
namespace {

constexpr double kWidth = 720, kHeight = 400, kLeft = 70, kRight = 20, kTop = 30, kBottom = 50;
constexpr double kMostNines = 6;
constexpr double kLow = 1e4, kHigh = 1e8;  // ns

double x_of(double nines) {
  return kLeft + (kWidth - kLeft - kRight) * nines / kMostNines;
}

double y_of(double ns) {
  const double share =
      (std::log10(std::clamp(ns, kLow, kHigh)) - std::log10(kLow)) / std::log10(kHigh / kLow);
  return kHeight - kBottom - (kHeight - kTop - kBottom) * share;
}

std::string text(double x, double y, const char* anchor, const std::string& words) {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\">{}</text>\n", x, y, anchor,
                     words);
}

std::string line(double x1, double y1, double x2, double y2) {
  return fmt::format(
      "<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"#ddd\"/>\n", x1, y1,
      x2, y2);
}

std::string axes() {
  std::string out;
  static const char* const shares[] = {"0 %",     "90 %",     "99 %",     "99.9 %",
                                       "99.99 %", "99.999 %", "99.9999 %"};
  for (int nines = 0; nines <= static_cast<int>(kMostNines); ++nines) {
    out += line(x_of(nines), kTop, x_of(nines), kHeight - kBottom);
    out += text(x_of(nines), kHeight - kBottom + 18, "middle", shares[nines]);
  }
  static const std::pair<double, const char*> times[] = {
      {1e4, "10 µs"}, {1e5, "100 µs"}, {1e6, "1 ms"}, {1e7, "10 ms"}, {1e8, "100 ms"}};
  for (const auto& [ns, name] : times) {
    out += line(kLeft, y_of(ns), kWidth - kRight, y_of(ns));
    out += text(kLeft - 8, y_of(ns) + 4, "end", name);
  }
  return out + text((kLeft + kWidth - kRight) / 2, kHeight - 10, "middle", "share of the requests");
}

std::string path(const Curve& curve) {
  std::string points;
  const auto count = static_cast<double>(curve.sorted_ns.size());
  for (double nines = 0; nines <= kMostNines; nines += 0.02) {
    const double rank = count * (1 - std::pow(10, -nines));
    if (rank > count - 1) {
      break;  // fewer requests than that
    }
    points += fmt::format("{:.1f},{:.1f} ", x_of(nines),
                          y_of(curve.sorted_ns[static_cast<size_t>(rank)]));
  }
  return fmt::format("<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"2\" points=\"{}\"/>\n",
                     curve.colour, points);
}

}  // namespace

std::string latency_chart(const std::vector<Curve>& curves) {
  std::string out = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" "
      "height=\"{1}\" font-family=\"sans-serif\" font-size=\"12\">\n"
      "<rect width=\"{0}\" height=\"{1}\" fill=\"#fff\"/>\n",
      kWidth, kHeight);
  out += axes();
  double y = kTop - 10, x = kLeft;
  for (const Curve& curve : curves) {
    out += path(curve);
    out += fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"12\" height=\"4\" fill=\"{}\"/>\n",
                       x, y - 5, curve.colour);
    out += text(x + 18, y, "start", curve.name);
    x += 30 + 8 * static_cast<double>(curve.name.size());
  }
  return out + "</svg>\n";
}

}  // namespace bench
