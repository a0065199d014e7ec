// Where the static local variables of an object are declared.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "elf/file.h"

namespace qp::elf {

struct StaticLocal {
  uint32_t section = 0;  // of the variable
  uint64_t offset = 0;   // in the section
  std::string function;  // that declares it
  // "x.c:12:30": without directories, since the two objects of a diff may come from two trees; the
  // column only if the compiler tells.
  std::string place;
};

// From the debug information; none without it, or where it can't be read.
std::vector<StaticLocal> read_static_locals(const File& object);

}  // namespace qp::elf
