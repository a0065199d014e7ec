// Any bytes as an ELF file: everything that reads one gives a value or an Error (P8).

#include <cstddef>
#include <cstdint>

#include "exercise.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  qp::elf::exercise(std::as_bytes(std::span(data, size)));
  return 0;
}
