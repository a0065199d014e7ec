// Lines are for people: they are never needed for a decision, so whatever is missing or broken in
// the DWARF means "not known" here.

#include "elf/line_table.h"

#include <elfutils/libdw.h>

#include <fmt/format.h>

#include "base/error.h"
#include "elf/debug_info.h"

namespace qp::elf {

LineTable::LineTable(const File& object) {
  try {
    info_ = std::make_unique<DebugInfo>(object);
  } catch (const Error&) {
    // find() has nothing to say
  }
}

LineTable::~LineTable() = default;

std::optional<std::string> LineTable::find(uint32_t section, uint64_t offset) const {
  if (!info_ || info_->get() == nullptr) {
    return std::nullopt;
  }
  const Dwarf_Addr address = info_->base(section) + offset;
  std::optional<std::string> found;
  try {
    info_->each_unit([&](Dwarf_Die* unit) {
      Dwarf_Line* line = dwarf_getsrc_die(unit, address);
      int number = 0;
      const char* source = line == nullptr ? nullptr : dwarf_linesrc(line, nullptr, nullptr);
      if (source != nullptr && dwarf_lineno(line, &number) == 0) {
        found = fmt::format("{}:{}", source, number);
      }
      return !found;
    });
  } catch (const Error&) {
    // not known
  }
  return found;
}

}  // namespace qp::elf
