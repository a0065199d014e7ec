// Patches made by hand, and images looked at by address.
#pragma once

#include <gtest/gtest.h>

#include <initializer_list>
#include <memory>
#include <string>

#include "base/report.h"
#include "elf/file.h"
#include "format/patch.h"
#include "link/image.h"

namespace qp::link {

inline Bytes bytes_of(std::initializer_list<unsigned> values) {
  Bytes out;
  for (unsigned v : values) {
    out.push_back(static_cast<std::byte>(v));
  }
  return out;
}

class PatchBuilder {
 public:
  format::Patch patch;

  explicit PatchBuilder(bool position_independent = true) {
    patch.meta.target_name = "victim";
    patch.meta.target_build_id = "00";
    patch.meta.position_independent = position_independent;
  }

  // Adds an atom and its symbol; the symbol's id.
  elf::AtomSymbolId atom(const std::string& name, elf::AtomKind kind, elf::Storage storage,
                         Bytes content, uint64_t alignment = 1, uint64_t bss_size = 0) {
    elf::Atom a;
    a.kind = kind;
    a.storage = storage;
    a.alignment = alignment;
    a.size = elf::has_bytes(storage) ? content.size() : bss_size;
    a.bytes = std::move(content);
    elf::AtomSymbol s;
    s.name = name;
    s.type = kind == elf::AtomKind::Function ? elf::SymbolType::Func : elf::SymbolType::Object;
    s.bind = elf::SymbolBind::Global;
    s.atom = static_cast<elf::AtomId>(patch.fresh.atoms.size());
    s.size = a.size;
    a.symbol = add(s, {});
    patch.fresh.atoms.push_back(std::move(a));
    return patch.fresh.atoms.back().symbol;
  }
  elf::AtomSymbolId function(const std::string& name, Bytes code) {
    return atom(name, elf::AtomKind::Function, elf::Storage::Text, std::move(code), 16);
  }
  elf::AtomSymbolId data(const std::string& name, Bytes content,
                         elf::Storage storage = elf::Storage::Data, uint64_t alignment = 8) {
    return atom(name, elf::AtomKind::Variable, storage, std::move(content), alignment);
  }
  elf::AtomSymbolId bound(const std::string& name, uint64_t address) {
    elf::Binding b;
    b.kind = elf::BindingKind::Address;
    b.address = LinkAddr(address);
    return undefined(name, b);
  }
  elf::AtomSymbolId import(const std::string& name, uint64_t stub = 0) {
    elf::Binding b;
    b.kind = elf::BindingKind::Import;
    b.stub = LinkAddr(stub);
    return undefined(name, b);
  }
  elf::AtomSymbolId thread_local_at(const std::string& name, int64_t offset) {
    elf::Binding b;
    b.kind = elf::BindingKind::TpOffset;
    b.tp_offset = offset;
    return undefined(name, b);
  }
  elf::AtomSymbolId undefined(const std::string& name, const elf::Binding& binding) {
    elf::AtomSymbol s;
    s.name = name;
    s.bind = elf::SymbolBind::Global;
    return add(s, binding);
  }
  void ref(elf::AtomSymbolId from, uint64_t at, elf::RelocType type, elf::AtomSymbolId to,
           int64_t addend = 0) {
    elf::Atom& a = patch.fresh.atoms[*patch.fresh.symbols[from].atom];
    a.refs.push_back({at, type, to, addend});
  }
  elf::Atom& atom_of(elf::AtomSymbolId symbol) {
    return patch.fresh.atoms[*patch.fresh.symbols[symbol].atom];
  }
  void replaces(const std::string& name, elf::AtomSymbolId fresh, uint64_t entry) {
    format::Replaced r;
    r.name = name;
    r.new_function = *patch.fresh.symbols[fresh].atom;
    r.entry = LinkAddr(entry);
    patch.replaced.push_back(r);
  }

 private:
  elf::AtomSymbolId add(const elf::AtomSymbol& symbol, const elf::Binding& binding) {
    patch.fresh.symbols.push_back(symbol);
    patch.fresh_bindings.push_back(binding);
    return static_cast<elf::AtomSymbolId>(patch.fresh.symbols.size() - 1);
  }
};

// A linked image, read back through its own ELF headers.
class Linked {
 public:
  Linked(const format::Patch& patch, uint64_t base, uint64_t registry = 256)
      : image(link_image(patch, LinkAddr(base), registry, report)),
        file(std::make_shared<elf::File>(elf::File::parse(image.file, "image"))) {}

  uint64_t address_of(std::string_view name) const {
    for (const elf::Symbol& s : file->symbols()) {
      if (s.name == name) {
        return s.value;
      }
    }
    ADD_FAILURE() << "no symbol " << name;
    return 0;
  }
  template <class T>
  T at(uint64_t address) const {
    T value{};
    auto out = std::as_writable_bytes(std::span(&value, 1));
    EXPECT_TRUE(elf::FileReader(*file).try_read(LinkAddr(address), out)) << std::hex << address;
    return value;
  }
  const Fill* fill_at(uint64_t address) const {
    for (const Fill& f : image.fills) {
      if (f.at.value == address) {
        return &f;
      }
    }
    return nullptr;
  }
  bool is_writable(uint64_t address) const {
    for (const ImageSegment& s : image.segments) {
      if (s.address.value <= address && address < s.address.value + s.memory_size) {
        return (s.flags & elf::kSegW) != 0;
      }
    }
    return false;
  }

  Report report;
  Image image;
  std::shared_ptr<elf::File> file;
};

inline std::vector<std::string> ids(const Report& report) {
  std::vector<std::string> out;
  for (const Refusal& r : report.refusals()) {
    out.push_back(r.id);
  }
  return out;
}

// Links and returns the ids of the findings.
inline std::vector<std::string> findings(const format::Patch& patch, uint64_t base) {
  Report report;
  link_image(patch, LinkAddr(base), 0, report);
  return ids(report);
}

}  // namespace qp::link
