// Private to elf: string tables and symbols as they are written.
#pragma once

#include <elf.h>

#include <string>
#include <string_view>
#include <unordered_map>

#include "base/bytes.h"
#include "elf/object_writer.h"

namespace qp::elf {

// A string table in order of first use, each string once.
class StringBuilder {
 public:
  StringBuilder() { bytes_.push_back(std::byte{0}); }
  uint32_t add(std::string_view text) {
    if (text.empty()) {
      return 0;
    }
    auto [it, is_new] = offsets_.try_emplace(std::string(text), bytes_.size());
    if (is_new) {
      append_text(bytes_, text);
      bytes_.push_back(std::byte{0});
    }
    return it->second;
  }
  const Bytes& bytes() const { return bytes_; }

 private:
  Bytes bytes_;
  std::unordered_map<std::string, uint32_t> offsets_;
};

// Sections from 0xff00 on get SHN_XINDEX; the caller writes SHT_SYMTAB_SHNDX.
Elf64_Sym encode_symbol(const OutSymbol& symbol, uint32_t name);

}  // namespace qp::elf
