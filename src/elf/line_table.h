// Which source line a place in the code comes from.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "elf/file.h"

namespace qp::elf {

class DebugInfo;

class LineTable {
 public:
  // Of an object. Without DWARF, or where it can't be read, it finds nothing.
  explicit LineTable(const File& object);
  ~LineTable();
  // "ofproto/ofproto.c:1234": the file as the compiler recorded it. Nullopt if nothing covers it.
  std::optional<std::string> find(uint32_t section, uint64_t offset) const;

 private:
  std::unique_ptr<DebugInfo> info_;
};

}  // namespace qp::elf
