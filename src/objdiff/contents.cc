// Content instead of place: a Merkle comparison of data.
//
// Every reference becomes a Token: an outside name, a correlated function or variable and an
// offset, or the content of private data and an offset. Every private atom gets a number that is
// made from its bytes and the tokens of its references, recursively, so that two references to
// strings are equal exactly if the strings are, whatever .LC they carry. Cycles are closed by their
// distance on the stack.
//
// Three things are special.
//
// Code: an offset into a function (switch table, jump from .cold) is compared as the ordinal of the
// instruction there, so that the width of a jump before it does not matter.
//
// Named read-only data: its identity is enough as long as its content is equal. If it is not, old
// and new readers see different things, so its tokens differ, and with them whatever refers to it:
// all readers change. That is computed to a fixpoint before any function is compared.
//
// Runs: without a symbol nothing says which thing a pointer in a run of anonymous data belongs to.
// The end of one is the start of the next (`p != table + n`), and a biased index (`table[i - 5]`)
// points into the one before. So a reference to a start also carries the content of the previous
// neighbour, and one to an interior that of the next: whoever could mean the neighbour differs if
// the neighbour does. Loads from exactly one place (`movsd .LC3(%rip),%xmm0`) can't cross and are
// spared. Merged strings and constants form no runs: the linker moves them one by one, so nobody
// may rely on neighbours.

#include "objdiff/contents.h"

#include <algorithm>

#include "base/error.h"

namespace qp::objdiff {
namespace {

using elf::AtomId;
using elf::RelocType;

void put(std::string& out, uint64_t value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

constexpr uint32_t kOnlyOriginal = 0x4000'0000, kOnlyPatched = 0x8000'0000;

}  // namespace

RelocType reference_group(RelocType type) {
  switch (type) {
    case RelocType::PLT32:
      return RelocType::PC32;
    case RelocType::GOTPCRELX:
    case RelocType::REX_GOTPCRELX:
      return RelocType::GOTPCREL;
    default:
      return type;
  }
}

Contents::Contents(const Sides& sides, const Correlation& correlation)
    : sides_(sides), correlation_(correlation), changed_(sides.original.graph.atoms.size()) {
  interned_.emplace("", 0);  // 0 stays free for "unknown"
  find_changed();
}

uint32_t Contents::intern(std::string text) {
  return interned_.emplace(std::move(text), static_cast<uint32_t>(interned_.size())).first->second;
}

uint32_t Contents::identity(const Side& side, AtomId id) const {
  if (is_original(side)) {
    bool only = !correlation_.patched_of[id] || changed_[id];
    return only ? id | kOnlyOriginal : id;
  }
  auto original = correlation_.original_of[id];
  bool only = !original || changed_[*original];
  return only ? id | kOnlyPatched : *original;
}

Token Contents::resolve(const Side& side, const elf::Ref& ref, int64_t offset, bool crossing) {
  Token t;
  t.type = reference_group(ref.type);
  t.offset = offset;
  auto to = side.target(ref);
  if (!to) {
    const elf::AtomSymbol& s = side.graph.symbols[ref.symbol];
    t.identity = intern("outside " + s.name + "@" + s.version);
    return t;
  }
  const elf::Atom& target = side.atom(*to);
  if (is_code(target)) {
    t.kind = Token::Kind::Code;
    t.identity = identity(side, *to);
    if (offset != 0) {
      auto index = side.code_map(*to)->index_at(offset);
      t.boundary = index.has_value();
      t.offset = index ? *index : offset;
    }
    return t;
  }
  if (!side.is_private(*to)) {
    t.kind = Token::Kind::Named;
    t.identity = identity(side, *to);
    return t;
  }
  t.kind = Token::Kind::Private;
  t.identity = content(side, *to);
  if (crossing) {
    auto neighbour = offset <= 0 ? side.previous_in_run(*to) : side.next_in_run(*to);
    if (neighbour) {
      t.neighbour = content(side, *neighbour);
    }
  }
  return t;
}

Token Contents::token(const Side& side, AtomId container, const elf::Ref& ref, bool crossing) {
  return resolve(side, ref, target_offset(ref, side.atom(container), side.code_map(container)),
                 crossing);
}

Token Contents::frame_token(const Side& side, const elf::Ref& ref) {
  return resolve(side, ref, ref.addend, false);
}

std::string Contents::data_key(const Side& side, AtomId id) {
  const elf::Atom& a = side.atom(id);
  std::string key;
  put(key, a.size);
  bool zero = a.refs.empty() && std::all_of(a.bytes.begin(), a.bytes.end(),
                                            [](std::byte b) { return b == std::byte{0}; });
  if (!zero) {  // a zero variable is the same in .data and in .bss
    key += as_text(a.bytes);
  }
  for (const elf::Ref& ref : a.refs) {
    Token t = token(side, id, ref);
    put(key, ref.at);
    put(key, static_cast<uint64_t>(t.kind) << 40 | static_cast<uint64_t>(t.boundary) << 32 |
                 static_cast<uint32_t>(t.type));
    put(key, static_cast<uint64_t>(t.neighbour) << 32 | t.identity);
    put(key, static_cast<uint64_t>(t.offset));
  }
  return key;
}

uint32_t Contents::content(const Side& side, AtomId id) {
  State& s = state(side);
  if (s.ids[id] != 0) {
    return s.ids[id];
  }
  if (s.depth[id] != 0) {
    return intern("cycle " + std::to_string(stack_ - s.depth[id]));
  }
  s.depth[id] = ++stack_;
  uint32_t number = intern("content " + data_key(side, id));
  --stack_;
  s.depth[id] = 0;
  s.ids[id] = number;
  return number;
}

void Contents::find_changed() {
  for (bool again = true; again;) {
    again = false;
    original_ = {std::vector<uint32_t>(sides_.original.graph.atoms.size()),
                 std::vector<uint32_t>(sides_.original.graph.atoms.size())};
    patched_ = {std::vector<uint32_t>(sides_.patched.graph.atoms.size()),
                std::vector<uint32_t>(sides_.patched.graph.atoms.size())};
    std::vector<AtomId> found;
    for (AtomId id = 0; id < changed_.size(); ++id) {
      auto successor = correlation_.patched_of[id];
      if (changed_[id] || !successor || !is_read_only(sides_.original.atom(id)) ||
          sides_.original.is_private(id)) {
        continue;
      }
      if (!is_read_only(sides_.patched.atom(*successor)) ||
          data_key(sides_.original, id) != data_key(sides_.patched, *successor)) {
        found.push_back(id);
      }
    }
    for (AtomId id : found) {
      changed_[id] = again = true;
    }
  }
}

}  // namespace qp::objdiff
