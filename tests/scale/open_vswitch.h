// Open vSwitch with symbols (demos/ovs_build.sh), for tests on a real program.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "build/command.h"

namespace qp::scale {

constexpr uint64_t kSeed = 31;

// QPATCH_SCALE=full: everything instead of a sample.
bool full();

// The tree, built by that script if need be; once for all tests of this program.
const std::filesystem::path& tree();
const std::vector<build::Replay>& units();

// The unit as qpatch compiles it; `text` instead of the source, if not empty.
Bytes compile(const build::Replay& unit, const std::string& text);

// A sample of the units, or all.
std::vector<const build::Replay*> sample_of_units(size_t count);

}  // namespace qp::scale
