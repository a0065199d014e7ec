// Atoms: the plain values in which object code travels from the diff to the process.
//
// An atom is one thing in an object file that has an identity: a function, a named variable, one
// string, one constant, one jump table, one range of anonymous read-only data. objdiff splits
// objects into atoms, match proves them against a target, format stores them, link places them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "elf/types.h"

namespace qp::elf {

enum class AtomKind : uint8_t { Function, Variable, String, Constant, JumpTable, Anonymous };

// Where it lives, which says who may write there and whether it moves as text.
enum class Storage : uint8_t { Text, ReadOnly, RelRo, Data, Bss, TlsData, TlsBss };
constexpr bool is_writable(Storage s) {
  return s >= Storage::Data;
}
constexpr bool is_tls(Storage s) {
  return s == Storage::TlsData || s == Storage::TlsBss;
}
constexpr bool has_bytes(Storage s) {
  return s != Storage::Bss && s != Storage::TlsBss;
}

using AtomId = uint32_t;        // index into AtomGraph::atoms
using AtomSymbolId = uint32_t;  // index into AtomGraph::symbols

// One relocation. The field's value is the psABI's, with S = address of `symbol`.
// A reference to a defined thing always names the symbol of an atom (never a section symbol), and
// the addend is what makes S + A the same address as in the object. In text a PC-relative addend
// includes the distance to the end of the instruction (psABI: −4, or −8 with a trailing imm32).
struct Ref {
  uint64_t at = 0;  // offset of the field in the atom
  RelocType type = RelocType::None;
  AtomSymbolId symbol = 0;
  int64_t addend = 0;
  bool operator==(const Ref&) const = default;
};

// The unwind entry of (a piece of) a function, position-free. It travels with the function, so that
// debuggers, exceptions and our own stack check pass through patched code.
struct FrameEntry {
  uint64_t offset = 0, size = 0;   // the described range, in the atom
  Bytes cie;                       // CIE body: from the version byte to its end, DW_CFA_nop trimmed
  Bytes instructions;              // CFA instructions of the FDE, trailing DW_CFA_nop trimmed
  std::optional<Ref> personality;  // `at` unused
  std::optional<Ref> lsda;         // `at` unused
  bool operator==(const FrameEntry&) const = default;
};

struct Atom {
  AtomKind kind = AtomKind::Function;
  Storage storage = Storage::Text;
  uint64_t alignment = 1;
  uint64_t size = 0;
  Bytes bytes;                     // size bytes, or none if !has_bytes(storage)
  std::vector<Ref> refs;           // by `at`
  std::vector<FrameEntry> frames;  // functions: by offset
  AtomSymbolId symbol = 0;         // its own symbol, at offset 0
  std::string section;             // of the object it came from: ".text.f", ".rodata.str1.1"
  std::optional<AtomId> parent;    // of a piece (.cold): the function whose unit it belongs to
  // Set by the split only, and no part of a patch:
  bool comdat = false;      // member of a COMDAT group: other modules can hold copies
  std::string declared_in;  // a static local: its function; "" if not known
  std::string declared_at;  // and its place in the source
  uint32_t object = 0;      // which of several objects that were merged
  bool runs_on = false;     // execution leaves it at its end (hand-written assembly)
  bool operator==(const Atom&) const = default;
};

struct AtomSymbol {
  std::string name;     // as in the object, compiler suffix included; synthetic for anonymous atoms
                        // (unique in the graph: ".Lstr.3"), and then `anonymous` is set
  std::string version;  // .symver of an undefined symbol
  std::string file;     // FILE scope (base name as in the object) if the bind is Local, else ""
  SymbolType type = SymbolType::NoType;
  SymbolBind bind = SymbolBind::Local;
  Visibility visibility = Visibility::Default;
  bool anonymous = false;
  std::optional<AtomId> atom;  // nullopt: not defined in this graph
  uint64_t offset = 0;         // in the atom; ≠ 0 for aliases and labels inside
  uint64_t size = 0;
  bool operator==(const AtomSymbol&) const = default;
};

struct AtomGraph {
  std::string source;  // the unit's FILE symbol; "" in a graph merged from several
  std::vector<Atom> atoms;
  std::vector<AtomSymbol> symbols;
  bool operator==(const AtomGraph&) const = default;

  const AtomSymbol& symbol_of(AtomId id) const { return symbols[atoms[id].symbol]; }
  const std::string& name_of(AtomId id) const { return symbol_of(id).name; }
};

}  // namespace qp::elf
