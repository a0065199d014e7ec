// Any bytes as an object or a program with DWARF: types, declarations, lines and compilers give a
// value or an Error (P8). libdw reads it, and what it hands out is followed by us: references in
// circles, scopes without end.

#include <cstddef>
#include <cstdint>

#include "elf/declarations.h"
#include "elf/line_table.h"
#include "elf/types_dwarf.h"
#include "exercise.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace qp::elf;
  const qp::ByteView bytes = std::as_bytes(std::span(data, size));
  ask([&] {
    const File file = File::parse(qp::copy(bytes), "hostile");
    ask([&] { file.producers(); });
    ask([&] { read_types(file); });
    ask([&] { read_static_locals(file); });
    ask([&] {
      const LineTable lines(file);
      for (const Section& section : file.sections()) {
        lines.find(section.index, 0);
      }
    });
  });
  return 0;
}
