// DWARF says of each compile unit in which language it was written (DWARF 5, section 3.1.1). The
// options are no part of DWARF; GCC writes those that change code into DW_AT_producer
// (-grecord-gcc-switches, on by default), and the last one of several counts.

#include "elf/languages.h"

#include <dwarf.h>
#include <elfutils/libdw.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "elf/debug_info.h"

namespace qp::elf {
namespace {

// The newer ones by number (dwarfstd.org, "DWARF Version 5 Language Codes"): older <dwarf.h> lack them.
constexpr Dwarf_Word kCxx17 = 0x2b, kCxx20 = 0x2c;
constexpr std::array<Dwarf_Word, 7> kCxx = {DW_LANG_C_plus_plus,
                                            DW_LANG_C_plus_plus_03,
                                            DW_LANG_C_plus_plus_11,
                                            DW_LANG_C_plus_plus_14,
                                            DW_LANG_ObjC_plus_plus,
                                            kCxx17,
                                            kCxx20};

bool is_cxx(Dwarf_Die* unit, std::string_view producer) {
  Dwarf_Attribute attribute;
  Dwarf_Word language = 0;
  const bool told = dwarf_formudata(dwarf_attr(unit, DW_AT_language, &attribute), &language) == 0;
  return (told && std::find(kCxx.begin(), kCxx.end(), language) != kCxx.end()) ||
         producer.starts_with("GNU C++");
}

}  // namespace

std::optional<std::string> find_cxx_with_exceptions(const File& file) {
  std::optional<std::string> found;
  DebugInfo(file).each_unit([&](Dwarf_Die* unit) {
    Dwarf_Attribute attribute;
    const char* text = dwarf_formstring(dwarf_attr(unit, DW_AT_producer, &attribute));
    const std::string_view producer = text == nullptr ? "" : text;
    const size_t off = producer.rfind("-fno-exceptions"), on = producer.rfind("-fexceptions");
    const bool without =
        off != std::string_view::npos && (on == std::string_view::npos || on < off);
    if (is_cxx(unit, producer) && !without) {
      const char* name = dwarf_diename(unit);
      found = name == nullptr ? "a unit" : name;
    }
    return !found;
  });
  return found;
}

}  // namespace qp::elf
