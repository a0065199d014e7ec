// A small patch that has one of everything.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "format/patch.h"

namespace qp::format {

inline Bytes bytes_of(std::initializer_list<int> values) {
  Bytes out;
  for (int v : values) {
    out.push_back(static_cast<std::byte>(v));
  }
  return out;
}

inline elf::AtomSymbol make_symbol(std::string name, elf::SymbolType type, elf::SymbolBind bind,
                                   std::optional<elf::AtomId> atom, uint64_t size = 0) {
  elf::AtomSymbol s;
  s.name = std::move(name);
  s.type = type;
  s.bind = bind;
  s.atom = atom;
  s.size = size;
  return s;
}

inline elf::Atom make_atom(elf::AtomKind kind, elf::Storage storage, std::string section,
                           Bytes bytes, elf::AtomSymbolId symbol) {
  elf::Atom a;
  a.kind = kind;
  a.storage = storage;
  a.section = std::move(section);
  a.size = bytes.size();
  a.bytes = std::move(bytes);
  a.symbol = symbol;
  return a;
}

// Function f with its .cold piece, which call `other` and use a string and `counter`.
inline elf::AtomGraph sample_graph(int immediate) {
  using namespace elf;
  AtomGraph g;
  g.source = "unit.c";
  // A global before locals: the graph's order is not the file's.
  g.symbols.push_back(make_symbol("f", SymbolType::Func, SymbolBind::Global, 0, 18));
  g.symbols.push_back(make_symbol("f.cold", SymbolType::Func, SymbolBind::Local, 1, 6));
  g.symbols.push_back(make_symbol(".Lstr.0", SymbolType::NoType, SymbolBind::Local, 2, 3));
  g.symbols.push_back(make_symbol("other", SymbolType::NoType, SymbolBind::Global, {}));
  g.symbols.push_back(make_symbol("counter", SymbolType::Object, SymbolBind::Local, {}, 4));
  g.symbols.push_back(make_symbol("memcpy", SymbolType::NoType, SymbolBind::Weak, {}));
  g.symbols.push_back(make_symbol("f_alias", SymbolType::Func, SymbolBind::Weak, 0, 13));
  g.symbols[1].file = g.symbols[4].file = "unit.c";
  g.symbols[2].anonymous = true;
  g.symbols[5].version = "GLIBC_2.14";
  g.symbols[6].offset = 5;
  g.symbols[6].visibility = Visibility::Protected;
  //  0  e8 00 00 00 00        call other
  //  5  48 8d 3d 00 00 00 00  lea .Lstr.0(%rip),%rdi
  //  c  83 c0 ii              add $immediate,%eax
  //  f  c3                    ret
  // 10  66 90                 xchg %ax,%ax
  Atom f = make_atom(AtomKind::Function, Storage::Text, ".text.f",
                     bytes_of({0xe8, 0, 0, 0, 0, 0x48, 0x8d, 0x3d, 0, 0, 0, 0, 0x83, 0xc0,
                               immediate, 0xc3, 0x66, 0x90}),
                     0);
  f.alignment = 16;
  f.refs = {{1, RelocType::PLT32, 3, -4}, {8, RelocType::PC32, 2, -4}};
  FrameEntry frame;
  frame.size = 18;
  frame.cie = bytes_of({1, 'z', 'P', 'L', 'R',  0,    1,    0x78, 0x10, 7,    0x9b,
                        0, 0,   0,   0,   0x1b, 0x1b, 0x0c, 7,    8,    0x90, 1});
  frame.instructions = bytes_of({0x41, 0x0e, 0x00});
  frame.personality = Ref{0, RelocType::PC32, 5, 0};
  frame.lsda = Ref{0, RelocType::PC32, 2, 1};
  f.frames.push_back(frame);
  // 0  ff 05 00 00 00 00  incl counter(%rip)
  Atom cold = make_atom(AtomKind::Function, Storage::Text, ".text.unlikely.f",
                        bytes_of({0xff, 0x05, 0, 0, 0, 0}), 1);
  cold.refs = {{2, RelocType::PC32, 4, -4}};
  cold.parent = 0;
  Atom text = make_atom(AtomKind::String, Storage::ReadOnly, ".rodata.f.str1.1",
                        bytes_of({'h', 'i', 0}), 2);
  g.atoms = {f, cold, text};
  return g;
}

inline void add_new_data(elf::AtomGraph& g) {
  using namespace elf;
  auto add = [&](std::string name, SymbolType type, Storage storage, std::string section,
                 Bytes bytes, uint64_t size) {
    auto atom = static_cast<AtomId>(g.atoms.size());
    auto symbol = static_cast<AtomSymbolId>(g.symbols.size());
    g.symbols.push_back(make_symbol(std::move(name), type, SymbolBind::Local, atom, size));
    g.symbols.back().file = "second.c";
    g.atoms.push_back(
        make_atom(AtomKind::Variable, storage, std::move(section), std::move(bytes), symbol));
    g.atoms.back().size = size;
    g.atoms.back().alignment = 8;
  };
  add("pointer", SymbolType::Object, Storage::Data, ".data.pointer", Bytes(8), 8);
  g.atoms.back().refs = {{0, RelocType::R64, 3, 2}};
  add("zeros", SymbolType::Object, Storage::Bss, ".bss.zeros", {}, 4000);
  add("mine", SymbolType::Tls, Storage::TlsData, ".tdata.mine", Bytes(4), 4);
  add("mine0", SymbolType::Tls, Storage::TlsBss, ".tbss.mine0", {}, 4);
  add("table", SymbolType::Object, Storage::RelRo, ".data.rel.ro.local.table", Bytes(16), 16);
  g.atoms.back().kind = AtomKind::JumpTable;
}

inline Patch sample_patch() {
  using namespace elf;
  Patch p;
  p.meta.target_name = "server";
  p.meta.target_build_id = "0123456789abcdef";
  p.meta.description = "two lines:\nnot one";
  p.meta.cves = {"CVE-2026-0001"};
  p.meta.toolchain = "GNU C17 12.2.0 -O2";
  p.meta.sources = {"src/unit.c"};
  p.meta.waivers = {"type-layout:Foo"};
  p.meta.supersedes = {"deadbeef"};
  p.fresh = sample_graph(6);
  add_new_data(p.fresh);
  p.old = sample_graph(5);
  Binding other{BindingKind::Address, Evidence::Proof, LinkAddr(0x401200), 0, "", {}, {}};
  Binding counter{BindingKind::Address, Evidence::SymbolTable, LinkAddr(0x404010), 0, "", {}, {}};
  Binding memcpy_{BindingKind::Import, Evidence::Proof,   {}, 0, "GLIBC_2.14",
                  LinkAddr(0x401030),  LinkAddr(0x404018)};
  p.fresh_bindings.resize(p.fresh.symbols.size());
  p.old_bindings.resize(p.old.symbols.size());
  for (auto* bindings : {&p.fresh_bindings, &p.old_bindings}) {
    (*bindings)[3] = other;
    (*bindings)[4] = counter;
    (*bindings)[5] = memcpy_;
  }
  p.old_bindings[0] = {BindingKind::Address, Evidence::Proof, LinkAddr(0x401100), 0, "", {}, {}};
  p.old_bindings[2] = {BindingKind::TpOffset, Evidence::Proof, {}, -24, "", {}, {}};
  Replaced r;
  r.name = "f";
  r.old_function = 0;
  r.new_function = 0;
  r.entry = LinkAddr(0x401100);
  r.ranges = {{LinkAddr(0x401100), LinkAddr(0x401112)}, {LinkAddr(0x401050), LinkAddr(0x401056)}};
  r.why = "add $0x5,%eax → add $0x6,%eax";
  p.replaced = {r};
  p.hooks = {{"raise_limit", "unit.c", Hook::When::PreApply, Hook::Others::Stopped, 0},
             {"f", "", Hook::When::PostRevert, Hook::Others::Running, 0}};
  return p;
}

}  // namespace qp::format
