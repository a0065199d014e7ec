// A file's DWARF as libdw sees it; for this module only.
#pragma once

#include <elfutils/libdw.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "elf/file.h"

namespace qp::elf {

class DebugInfo {
 public:
  // Copies the file. Throws Error{bad-file} for debug sections that can't be decompressed. A file
  // whose DWARF continues in another file (.gnu_debugaltlink, made by dwz) counts as one without.
  explicit DebugInfo(const File& file);
  Dwarf* get() const { return dwarf_.get(); }  // nullptr: no DWARF
  // Calls `visit` with each compile unit that is in the file whole, until it returns false. Skeletons of
  // split units (-gsplit-dwarf) are left out. Throws Error{bad-file} for units that can't be read.
  void each_unit(const std::function<bool(Dwarf_Die*)>& visit) const;
  // In an object each allocated section gets an address of its own, so that addresses in the DWARF tell
  // the section: what is at `offset` of section `index` has the address base(index) + offset.
  uint64_t base(uint32_t index) const { return index < bases_.size() ? bases_[index] : 0; }

 private:
  void relocate(const File& file);

  struct ElfCloser {
    void operator()(Elf* e) const;
  };
  struct DwarfCloser {
    void operator()(Dwarf* d) const { dwarf_end(d); }
  };
  std::string name_;
  Bytes bytes_;
  std::vector<uint64_t> bases_;
  std::unique_ptr<Elf, ElfCloser> elf_;
  std::unique_ptr<Dwarf, DwarfCloser> dwarf_;
};

}  // namespace qp::elf
