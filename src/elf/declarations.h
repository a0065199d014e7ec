// Where the static local and the thread-local variables of an object are declared.
#pragma once

#include <compare>
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

// A thread-local variable of the object, or a declaration of any variable that it does not define.
struct ThreadLocal {
  std::string name;
  std::string function;     // that declares it; "" outside of functions
  std::string file;         // as the compiler was told, absolute
  uint32_t line = 0;        // presumed, as by #line
  bool is_defined = false;  // here, and then it is thread-local
  auto operator<=>(const ThreadLocal&) const = default;
};

// From the debug information; none without it, or where it can't be read.
std::vector<StaticLocal> read_static_locals(const File& object);
std::vector<ThreadLocal> read_thread_locals(const File& object);

}  // namespace qp::elf
