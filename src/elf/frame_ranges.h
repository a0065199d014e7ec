// The ranges that the records of a linked file's .eh_frame describe: functions and their pieces,
// also of a stripped file.
#pragma once

#include <vector>

#include "base/address.h"
#include "elf/file.h"

namespace qp::elf {

// Sorted by start. What is malformed ends the list: nothing is known behind it.
std::vector<LinkRange> read_frame_ranges(const File& file);

}  // namespace qp::elf
