// libdw does not relocate the debug sections of objects, where every reference to .debug_str is a
// relocation; it is done here on a private copy, after decompression.
//
// All sections of an object begin at 0, so an address in the DWARF of an object with function
// sections would say little. The allocated sections are therefore laid out one behind the other, as
// a linker would, before the relocations are applied.
//
// DWARF can name other files to be read on: a split unit its .dwo, dwz the file with what several
// programs share. libdw opens them by itself, by whatever name is written there, and a name in a
// hostile file can be that of a pipe or a device. So such a file, or such a unit, counts as one whose
// DWARF is not there; objects that we compile have neither.

#include "elf/debug_info.h"

#include <dwarf.h>
#include <elf.h>
#include <libelf.h>

#include <algorithm>

#include <fmt/format.h>

#include "base/error.h"

namespace qp::elf {

namespace {

constexpr uint64_t kMostSection = uint64_t{1} << 40;  // a hostile size must not wrap addresses

}  // namespace

void DebugInfo::ElfCloser::operator()(Elf* e) const {
  elf_end(e);
}

DebugInfo::DebugInfo(const File& file) : name_(file.name()), bytes_(copy(file.bytes())) {
  if (file.find_section(".gnu_debugaltlink") != nullptr) {
    return;
  }
  elf_version(EV_CURRENT);
  elf_.reset(elf_memory(reinterpret_cast<char*>(bytes_.data()), bytes_.size()));
  if (elf_ && file.type() == FileType::Relocatable) {
    relocate(file);
  }
  dwarf_.reset(elf_ ? dwarf_begin_elf(elf_.get(), DWARF_C_READ, nullptr) : nullptr);
}

void DebugInfo::each_unit(const std::function<bool(Dwarf_Die*)>& visit) const {
  Dwarf_CU* unit = nullptr;
  for (Dwarf_Die die; dwarf_ != nullptr;) {
    const int end = dwarf_get_units(dwarf_.get(), unit, &unit, nullptr, nullptr, &die, nullptr);
    if (end == 1) {
      return;
    }
    if (end != 0) {
      throw bad_file(name_, fmt::format("DWARF: {}", dwarf_errmsg(-1)));
    }
    const bool skeleton =
        dwarf_hasattr(&die, DW_AT_dwo_name) != 0 || dwarf_hasattr(&die, DW_AT_GNU_dwo_name) != 0;
    if (!skeleton && !visit(&die)) {
      return;
    }
  }
}

void DebugInfo::relocate(const File& file) {
  bases_.resize(file.sections().size());
  uint64_t next = kPageSize;  // 0 is what libdw takes for a discarded section
  for (const Section& s : file.sections()) {
    if (s.has(kAlloc) && s.index < bases_.size()) {
      bases_[s.index] = next;
      next += align_up(std::min(s.size, kMostSection) + 1, 64);
    }
  }
  for (const Section& s : file.sections()) {
    if (!s.name.starts_with(".debug_")) {
      continue;
    }
    Elf_Scn* scn = elf_getscn(elf_.get(), s.index);
    if (scn == nullptr) {
      continue;
    }
    if (s.has(kCompressed) && elf_compress(scn, 0, 0) < 0) {
      throw bad_file(file.name(), fmt::format("{} can't be decompressed", s.name));
    }
    Elf_Data* data = elf_getdata(scn, nullptr);
    if (data == nullptr || data->d_buf == nullptr) {
      continue;
    }
    ByteSpan into(static_cast<std::byte*>(data->d_buf), data->d_size);
    for (const Relocation& r : file.relocations(s)) {
      const Symbol& symbol = file.symbols()[r.symbol];
      uint64_t value = base(symbol.section) + symbol.value + static_cast<uint64_t>(r.addend);
      if (r.type == RelocType::R32) {
        store(into, r.offset, static_cast<uint32_t>(value));
      } else if (r.type == RelocType::R64) {
        store(into, r.offset, value);
      }
    }
  }
}

}  // namespace qp::elf
