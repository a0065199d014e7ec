// What a target takes from other modules, and what ld.so writes into it.
//
// A call of a function of another module goes to a stub in .plt, .plt.sec or .plt.got, which jumps
// through a GOT slot; the slot is named by a dynamic relocation (JUMP_SLOT, GLOB_DAT, IRELATIVE).
// Stubs have no symbols, so they are read from their code: a `jmp *slot(%rip)`, behind an endbr64
// and a bnd prefix where the linker made a program for CET, behind a `mov $n,%r11d` from mold.
// (psABI 1.0, figure 5.2; binutils 2.40 bfd/elfxx-x86.c, lld ELF/Arch/X86_64.cpp.) In a lazy .plt
// the first entry has such a jump, too, but its slot belongs to ld.so and has no relocation.
//
// The same relocations tell which pointers in read-only data lead where: in the file of a PIE they
// are usually zero, so that a comparison of data has to ask here. RELR relocations leave the linked
// value in the file; those places are absent from the table, and the file's bytes are right.

#include <algorithm>
#include <set>

#include "elf/types.h"
#include "match/symbol_map.h"

namespace qp::match {
namespace {

bool has_bytes_at(ByteView code, uint64_t at, std::initializer_list<uint8_t> what) {
  if (at > code.size() || code.size() - at < what.size()) {
    return false;
  }
  return std::equal(what.begin(), what.end(), code.begin() + static_cast<ptrdiff_t>(at),
                    [](uint8_t a, std::byte b) { return std::byte{a} == b; });
}

// The slot through which the stub at `at` jumps.
std::optional<LinkAddr> find_stub_slot(ByteView code, uint64_t at, LinkAddr section) {
  if (has_bytes_at(code, at, {0xf3, 0x0f, 0x1e, 0xfa})) {  // endbr64
    at += 4;
  }
  if (has_bytes_at(code, at, {0x41, 0xbb})) {  // mov $n,%r11d
    at += 6;
  }
  if (has_bytes_at(code, at, {0xf2})) {  // bnd
    at += 1;
  }
  if (!has_bytes_at(code, at, {0xff, 0x25}) || code.size() - at < 6) {  // jmp *disp(%rip)
    return std::nullopt;
  }
  const auto displacement = load<int32_t>(code, at + 2);
  return section + (at + 6) + static_cast<uint64_t>(int64_t{displacement});
}

}  // namespace

uint32_t SymbolMap::import_index(std::string_view name, std::string_view version) {
  std::string key(name);
  key += '\0';
  key += version;
  const auto [at, fresh] =
      import_names_.emplace(std::move(key), static_cast<uint32_t>(imports_.size()));
  if (fresh) {
    imports_.push_back({std::string(name), std::string(version), {}, {}, {}, false});
  }
  return at->second;
}

void SymbolMap::read_relocations(const elf::File& file) {
  using elf::RelocType;
  using Kind = DynamicValue::Kind;
  const std::vector<elf::Symbol>& symbols = file.dynamic_symbols();
  std::set<uint32_t> eager;  // imports whose slot is filled when the program starts
  for (const elf::Relocation& relocation : file.dynamic_relocations()) {
    DynamicValue value;
    value.at = LinkAddr(relocation.offset);
    value.addend = relocation.addend;
    const elf::Symbol* symbol = relocation.symbol != 0 && relocation.symbol < symbols.size()
                                    ? &symbols[relocation.symbol]
                                    : nullptr;
    const bool slot = relocation.type == RelocType::GlobDat ||
                      relocation.type == RelocType::JumpSlot ||
                      relocation.type == RelocType::TPOFF64;
    if (symbol != nullptr && relocation.type != RelocType::Copy &&
        relocation.type != RelocType::Relative && !symbol->name.empty()) {
      const uint32_t index = import_index(symbol->name, symbol->version);
      value.import = index;
      ImportEntry& import = imports_[index];
      if (symbol->defined()) {
        import.own = LinkAddr(symbol->value);
        import.defined = true;
        import.ifunc = symbol->type == elf::SymbolType::GnuIfunc;
      }
      if (slot) {
        slots_.emplace_back(value.at, index);
        const bool at_start = relocation.type != RelocType::JumpSlot;
        if (import.slot.value == 0 || (at_start && eager.count(index) == 0)) {
          import.slot = value.at;
        }
        if (at_start) {
          eager.insert(index);
        }
      }
    }
    switch (relocation.type) {
      case RelocType::Relative:
      case RelocType::Relative64:
        value.kind = Kind::Address;
        value.address = LinkAddr(static_cast<uint64_t>(relocation.addend));
        break;
      case RelocType::GlobDat:
      case RelocType::JumpSlot:
        value.addend = 0;  // S alone, whatever the field of the record holds
        [[fallthrough]];
      case RelocType::R64:
        if (value.import) {
          value.kind = Kind::Import;
        } else {  // against a nameless symbol: the section's address plus the addend
          value.kind = Kind::Address;
          value.address = LinkAddr((symbol != nullptr ? symbol->value : 0) +
                                   static_cast<uint64_t>(relocation.addend));
        }
        break;
      case RelocType::IRelative: {
        const LinkAddr resolver(static_cast<uint64_t>(relocation.addend));
        value.kind = Kind::Import;
        value.import = static_cast<uint32_t>(imports_.size());
        value.addend = 0;
        slots_.emplace_back(value.at, *value.import);
        imports_.push_back({"", "", {}, value.at, resolver, true});
        break;
      }
      case RelocType::TPOFF64:
        value.kind = Kind::TpOffset;
        break;
      case RelocType::DTPMOD64: {
        value.kind = Kind::ModuleId;
        Bytes offset(sizeof(uint64_t));
        if (!value.import && elf::FileReader(file).try_read(value.at + 8, offset)) {
          value.addend = load<int64_t>(offset);
        }
        break;
      }
      case RelocType::DTPOFF64:
        value.kind = Kind::ModuleOffset;
        break;
      case RelocType::TLSDESC:
        value.kind = Kind::Descriptor;
        break;
      default:
        value.kind = Kind::Other;
        break;
    }
    dynamic_.push_back(value);
  }
  // A named import that nothing relocates (weak, or used by a version only) is an import as well.
  for (const elf::Symbol& symbol : symbols) {
    if (!symbol.defined() && !symbol.name.empty()) {
      import_index(symbol.name, symbol.version);
    }
  }
  std::sort(slots_.begin(), slots_.end());
}

void SymbolMap::read_stubs(const elf::File& file) {
  for (const elf::Section& section : file.sections()) {
    if (!section.has(elf::kExec) || !section.has(elf::kAlloc) ||
        (section.name != ".plt" && section.name != ".plt.sec" && section.name != ".plt.got" &&
         section.name != ".iplt")) {
      continue;
    }
    const ByteView code = file.content(section);
    for (uint64_t at = 0; at < code.size(); at += 8) {  // entries have 8 or 16 bytes
      const std::optional<LinkAddr> slot = find_stub_slot(code, at, section.address);
      const ImportEntry* import = slot ? import_by_slot(*slot) : nullptr;
      if (slot && import == nullptr && is_static_) {
        dead_stubs_.push_back(section.address + at);
      }
      if (import == nullptr) {
        continue;
      }
      const auto index = static_cast<uint32_t>(import - imports_.data());
      stubs_.emplace_back(section.address + at, index);
      if (imports_[index].stub.value == 0) {
        imports_[index].stub = section.address + at;
      }
    }
  }
}

bool SymbolMap::is_dead_stub(LinkAddr address) const {
  return std::find(dead_stubs_.begin(), dead_stubs_.end(), address) != dead_stubs_.end();
}

const ImportEntry* SymbolMap::import_named(std::string_view name) const {
  std::string key(name);
  key += '\0';
  const auto at = import_names_.lower_bound(key);
  if (at == import_names_.end() || at->first.compare(0, key.size(), key) != 0) {
    return nullptr;
  }
  return &imports_[at->second];
}

const ImportEntry* SymbolMap::import_by_stub(LinkAddr stub) const {
  const auto at = std::lower_bound(stubs_.begin(), stubs_.end(), std::pair(stub, uint32_t{0}));
  return at == stubs_.end() || at->first != stub ? nullptr : &imports_[at->second];
}

const ImportEntry* SymbolMap::import_by_slot(LinkAddr slot) const {
  const auto at = std::lower_bound(slots_.begin(), slots_.end(), std::pair(slot, uint32_t{0}));
  return at == slots_.end() || at->first != slot ? nullptr : &imports_[at->second];
}

const DynamicValue* SymbolMap::dynamic_value_at(LinkAddr place) const {
  const auto at =
      std::lower_bound(dynamic_.begin(), dynamic_.end(), place,
                       [](const DynamicValue& v, LinkAddr wanted) { return v.at < wanted; });
  return at == dynamic_.end() || at->at != place ? nullptr : &*at;
}

}  // namespace qp::match
