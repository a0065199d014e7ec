// A library that was opened late can have gigabytes of the process's data on both sides of it, and a
// program can reserve all that is near it. Then no image is possible from which 32-bit distances reach
// the target. New code was compiled for them, and whoever links it elsewhere has to change it:
//
//     call f                     call 1f           1: jmp *word(%rip)
//     lea var(%rip),%rax         mov word(%rip),%rax
//     call *var(%rip)            nop; call 1f      1: mov word(%rip),%r11; jmp *(%r11)
//     add $1,var(%rip)           jmp 1f            1: see link/thunk.cc
//
// where `word` is in the image and holds the address. Nothing moves: each instruction keeps its place and
// its room, so that jumps, tables and unwind entries of the function stay right. A lea is the load of a
// GOT slot again that a linker would have made a lea of; both are of one length.
//
// That the instructions are what they are taken for is shown as for the proof: the function is decoded
// from its start, and the field of the relocation is a field of an instruction. A jump into the middle of
// one (over a lock prefix) is looked for, since its bytes change. What can't be changed is refused.
//
// The outcome is a patch again, so that everything else (layout, relocation, unwind tables, symbols) has
// nothing to know of it. The way back, from the target's entries to the image, is in link/detour.cc.

#include "link/far.h"

#include <algorithm>
#include <map>
#include <set>

#include <fmt/format.h>

#include "base/error.h"
#include "insn/instruction.h"
#include "link/route.h"
#include "link/thunk.h"

namespace qp::link {
namespace {

using elf::RelocType;

constexpr uint64_t kField = 4, kJump = 5;
constexpr std::byte kNop{0x90}, kTrap{0xcc};

struct Place {
  uint64_t start = 0;
  insn::Instruction instruction;
  uint64_t end() const { return start + instruction.length; }
};

// A function's instructions, by their place.
class Code {
 public:
  explicit Code(ByteView bytes) {
    for (uint64_t at = 0; at < bytes.size();) {
      const auto found = insn::decode(bytes, at);
      if (!found) {
        return;  // data: what comes behind it is not known
      }
      places_.push_back({at, *found});
      if (const auto to = found->branch_target()) {
        targets_.insert(at + static_cast<uint64_t>(*to));
      }
      at += found->length;
    }
  }
  const Place* at_field(uint64_t field) const {
    const auto behind =
        std::upper_bound(places_.begin(), places_.end(), field,
                         [](uint64_t value, const Place& place) { return value < place.start; });
    return behind != places_.begin() && field < std::prev(behind)->end() ? &*std::prev(behind)
                                                                         : nullptr;
  }
  bool is_entered_within(const Place& place) const {
    const auto next = targets_.upper_bound(place.start);
    return next != targets_.end() && *next < place.end();
  }
  const std::vector<Place>& places() const { return places_; }

 private:
  std::vector<Place> places_;
  std::set<uint64_t> targets_;  // of direct jumps
};

// Prefixes that make another address of an operand: a segment's base, or 32 bits of it.
bool has_other_address(const elf::Atom& atom, const Place& place) {
  for (uint64_t at = place.start; at < place.end(); ++at) {
    switch (static_cast<uint8_t>(atom.bytes[at])) {
      case 0x64:  // fs
      case 0x65:  // gs
      case 0x67:  // address size
        return true;
      case 0x26:
      case 0x2e:
      case 0x36:
      case 0x3e:
      case 0x66:
      case 0xf0:
      case 0xf2:
      case 0xf3:
        break;  // the other legacy prefixes
      default:
        return false;
    }
  }
  return false;
}

class FarPatch {
 public:
  FarPatch(const format::Patch& patch, Report& report)
      : patch_(patch), out_(patch), report_(report) {}

  format::Patch make() {
    for (elf::AtomId id = 0; id < patch_.fresh.atoms.size(); ++id) {
      convert(id);
    }
    return std::move(out_);
  }

 private:
  void refuse(elf::AtomId id, const elf::Ref& ref, std::string_view why) {
    report_.refuse("no-room", patch_.fresh.name_of(id),
                   fmt::format("nothing is free within 2 GiB of {}, which its code at +{:#x} "
                               "reaches by a distance; {}",
                               patch_.fresh.symbols[ref.symbol].name, ref.at, why));
  }

  // What the image has to hold the address of, if the reference is a distance to it from the target.
  std::optional<elf::AtomSymbolId> find_referent(const elf::Atom& atom, const elf::Ref& ref) {
    const Route route = find_route(patch_, atom, ref);
    const elf::Binding& binding = patch_.fresh_bindings[ref.symbol];
    switch (route.way) {
      case Way::Direct: {
        const elf::RelocTraits& traits = *elf::find_traits(ref.type);
        const bool by_distance = traits.pc_relative && traits.width < 8;
        return by_distance && !patch_.fresh.symbols[ref.symbol].atom ? std::optional(ref.symbol)
                                                                     : std::nullopt;
      }
      case Way::Stub:
        return place_in_target(ref.symbol, binding.stub);
      case Way::OwnSlot:
        return place_in_target(ref.symbol, binding.got_slot);
      default:
        return std::nullopt;
    }
  }

  void convert(elf::AtomId id) {
    const elf::Atom& atom = patch_.fresh.atoms[id];
    std::optional<Code> code;
    for (size_t i = 0; i < atom.refs.size(); ++i) {
      const elf::Ref& ref = atom.refs[i];
      const auto referent = find_referent(atom, ref);
      if (!referent) {
        continue;
      }
      if (atom.storage != elf::Storage::Text) {
        refuse(id, ref, "it is no code");
        continue;
      }
      if (!code) {
        code.emplace(atom.bytes);
      }
      const Place* place = code->at_field(ref.at);
      const bool branch = place != nullptr && place->instruction.branch.size == kField &&
                          place->start + place->instruction.branch.offset == ref.at;
      const bool operand = place != nullptr && place->instruction.rip_relative &&
                           place->instruction.displacement.size == kField &&
                           place->start + place->instruction.displacement.offset == ref.at;
      if (place != nullptr && has_other_address(atom, *place)) {
        refuse(id, ref, "its address has a segment or 32 bits");
      } else if (branch) {
        const elf::AtomSymbolId word = word_for(*referent, ref.addend + kField);
        lead(id, i, {ref.at, RelocType::PC32, jump_thunk(word), -int64_t{kField}});
      } else if (!operand || !convert_operand(id, i, *place, *code, *referent)) {
        refuse(id, ref, "its instruction can't be changed");
      }
    }
  }

  bool convert_operand(elf::AtomId id, size_t i, const Place& place, const Code& code,
                       elf::AtomSymbolId referent) {
    const elf::Atom& atom = patch_.fresh.atoms[id];
    const elf::Ref& ref = atom.refs[i];
    const elf::AtomSymbolId word =
        word_for(referent, ref.addend + static_cast<int64_t>(place.end() - ref.at));
    // The bytes alone could be those of an EVEX instruction (vpermw).
    if (!place.instruction.direct_access && is_lea(atom, ref.at)) {
      out_.fresh.atoms[id].bytes[ref.at - 2] = std::byte{0x8b};  // mov word(%rip),%reg
      lead(id, i, {ref.at, RelocType::PC32, word, -int64_t{kField}});
      return true;
    }
    const uint64_t room = place.instruction.length;
    if (room < kJump || code.is_entered_within(place)) {
      return false;
    }
    switch (place.instruction.flow) {
      case insn::Flow::Call: {  // it has no immediate
        // The return address stays the same.
        const uint64_t call = place.end() - kJump;
        write(id, place, kNop, call, std::byte{0xe8});
        lead(id, i, {call + 1, RelocType::PC32, pointer_thunk(word), -int64_t{kField}});
        return true;
      }
      case insn::Flow::IndirectJump:
        if (!leaves_for_good(atom, code)) {
          return false;
        }
        write(id, place, kTrap, place.start, std::byte{0xe9});
        lead(id, i, {place.start + 1, RelocType::PC32, pointer_thunk(word), -int64_t{kField}});
        return true;
      case insn::Flow::Next: {
        const auto immediate = find_immediate(atom, place, ref.at);
        const auto thunk = make_access_thunk(atom, place.start, room, ref.at);
        if (!thunk || !immediate) {
          return false;
        }
        const elf::AtomSymbolId symbol = add_thunk(*thunk, word, id);
        std::vector<elf::Ref>& refs = out_.fresh.atoms[*out_.fresh.symbols[symbol].atom].refs;
        for (const size_t other : *immediate) {
          elf::Ref moved = atom.refs[other];
          moved.at = thunk->access + (moved.at - place.start) - kField;
          refs.push_back(moved);
          out_.fresh.atoms[id].refs[other].type = RelocType::None;
        }
        refs.push_back({*thunk->back, RelocType::PC32, atom.symbol,
                        static_cast<int64_t>(place.end()) - int64_t{kField}});
        write(id, place, kTrap, place.start, std::byte{0xe9});
        lead(id, i, {place.start + 1, RelocType::PC32, symbol, -int64_t{kField}});
        return true;
      }
      default:
        return false;
    }
  }

  // The reference in an immediate behind the operand's field, if there is one. Nullopt: others.
  static std::optional<std::vector<size_t>> find_immediate(const elf::Atom& atom,
                                                           const Place& place, uint64_t field) {
    std::vector<size_t> out;
    for (size_t i = 0; i < atom.refs.size(); ++i) {
      const elf::Ref& ref = atom.refs[i];
      if (place.start <= ref.at && ref.at < place.end() && ref.at != field) {
        const elf::RelocTraits* traits = elf::find_traits(ref.type);
        if (ref.at < field + kField || traits == nullptr || traits->pc_relative || traits->tls) {
          return std::nullopt;
        }
        out.push_back(i);
      }
    }
    return out;
  }

  // lea disp(%rip),%reg with all 64 bits of the register.
  static bool is_lea(const elf::Atom& atom, uint64_t field) {
    return field >= 3 && atom.bytes[field - 2] == std::byte{0x8d} &&
           (std::to_integer<unsigned>(atom.bytes[field - 3]) & 0xf8) == 0x48 &&
           (std::to_integer<unsigned>(atom.bytes[field - 1]) & 0xc7) == 0x05;
  }

  // An indirect jump that is the end of the function, a call in disguise, and not a jump to a label of
  // it: then nothing takes the address of one.
  bool leaves_for_good(const elf::Atom& atom, const Code& code) const {
    for (const Place& place : code.places()) {
      const uint64_t field = place.start + place.instruction.displacement.offset;
      if (place.instruction.rip_relative &&
          std::none_of(atom.refs.begin(), atom.refs.end(),
                       [&](const elf::Ref& ref) { return ref.at == field; })) {
        return false;
      }
    }
    const auto id = static_cast<elf::AtomId>(&atom - patch_.fresh.atoms.data());
    for (const elf::Atom& other : patch_.fresh.atoms) {
      for (const elf::Ref& ref : other.refs) {
        const elf::AtomSymbol& symbol = patch_.fresh.symbols[ref.symbol];
        const int64_t to = static_cast<int64_t>(symbol.offset) + ref.addend;
        if (symbol.atom == id && ref.type != RelocType::PLT32 && to != 0 &&
            to != -int64_t{kField}) {
          return false;
        }
      }
    }
    return true;
  }

  // The instruction becomes one byte of operation and a distance, at `at`; the rest is filled.
  void write(elf::AtomId id, const Place& place, std::byte filling, uint64_t at,
             std::byte operation) {
    Bytes& bytes = out_.fresh.atoms[id].bytes;
    std::fill(bytes.begin() + static_cast<ptrdiff_t>(place.start),
              bytes.begin() + static_cast<ptrdiff_t>(place.end()), filling);
    bytes[at] = operation;
    store(ByteSpan(bytes), at + 1, uint32_t{0});
  }
  void lead(elf::AtomId id, size_t i, const elf::Ref& ref) { out_.fresh.atoms[id].refs[i] = ref; }

  elf::AtomSymbolId add_symbol(elf::AtomSymbol symbol, const elf::Binding& binding) {
    out_.fresh.symbols.push_back(std::move(symbol));
    out_.fresh_bindings.push_back(binding);
    return static_cast<elf::AtomSymbolId>(out_.fresh.symbols.size() - 1);
  }

  elf::AtomSymbolId add_atom(elf::Atom atom, elf::SymbolType type) {
    elf::AtomSymbol symbol;
    symbol.name = fmt::format(".Lfar.{}", out_.fresh.atoms.size());
    symbol.anonymous = true;
    symbol.type = type;
    symbol.size = atom.size = atom.bytes.size();
    symbol.atom = static_cast<elf::AtomId>(out_.fresh.atoms.size());
    atom.symbol = add_symbol(std::move(symbol), {});
    out_.fresh.atoms.push_back(std::move(atom));
    return out_.fresh.atoms.back().symbol;
  }

  // A PLT entry or a GOT slot of the target.
  elf::AtomSymbolId place_in_target(elf::AtomSymbolId of, LinkAddr at) {
    const auto [known, is_new] = places_.try_emplace(at.value, 0);
    if (is_new) {
      elf::AtomSymbol symbol;
      symbol.name = patch_.fresh.symbols[of].name;
      elf::Binding binding;
      binding.kind = elf::BindingKind::Address;
      binding.evidence = patch_.fresh_bindings[of].evidence;
      binding.address = at;
      known->second = add_symbol(std::move(symbol), binding);
    }
    return known->second;
  }

  elf::AtomSymbolId word_for(elf::AtomSymbolId referent, int64_t addend) {
    const auto [known, is_new] = words_.try_emplace({referent, addend}, 0);
    if (is_new) {
      elf::Atom atom;
      atom.kind = elf::AtomKind::Anonymous;
      atom.storage = elf::Storage::RelRo;
      atom.alignment = 8;
      atom.bytes.resize(8);
      atom.refs.push_back({0, RelocType::R64, referent, addend});
      known->second = add_atom(std::move(atom), elf::SymbolType::Object);
    }
    return known->second;
  }

  elf::AtomSymbolId add_thunk(const Thunk& thunk, elf::AtomSymbolId word,
                              std::optional<elf::AtomId> function) {
    elf::Atom atom;
    atom.kind = elf::AtomKind::Anonymous;
    atom.bytes = thunk.code;
    atom.frames = thunk.frames;
    atom.parent = function;
    atom.refs.push_back({thunk.word, RelocType::PC32, word, -int64_t{kField}});
    return add_atom(std::move(atom), elf::SymbolType::Func);
  }
  elf::AtomSymbolId jump_thunk(elf::AtomSymbolId word) {
    const auto [known, is_new] = jumps_.try_emplace(word, 0);
    if (is_new) {
      known->second = add_thunk(make_jump_thunk(), word, std::nullopt);
    }
    return known->second;
  }
  elf::AtomSymbolId pointer_thunk(elf::AtomSymbolId word) {
    const auto [known, is_new] = pointers_.try_emplace(word, 0);
    if (is_new) {
      known->second = add_thunk(make_pointer_thunk(), word, std::nullopt);
    }
    return known->second;
  }

  const format::Patch& patch_;
  format::Patch out_;
  Report& report_;
  std::map<uint64_t, elf::AtomSymbolId> places_;
  std::map<std::pair<elf::AtomSymbolId, int64_t>, elf::AtomSymbolId> words_;
  std::map<elf::AtomSymbolId, elf::AtomSymbolId> jumps_, pointers_;  // by word
};

// What link refuses, it refuses for the patch as it was made.
bool is_linkable(const format::Patch& patch) {
  for (const elf::Atom& atom : patch.fresh.atoms) {
    for (const elf::Ref& ref : atom.refs) {
      if (find_route(patch, atom, ref).way == Way::Refused) {
        return false;
      }
    }
  }
  return true;
}

}  // namespace

format::Patch make_far(const format::Patch& patch, Report& report) {
  return is_linkable(patch) ? FarPatch(patch, report).make() : patch;
}

}  // namespace qp::link
