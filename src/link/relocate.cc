// Copies the atoms to their places and computes their fields.
//
// Each field is one of the psABI's formulas, and each value must be representable in its field: a
// distance that is cut to 32 bits jumps into somebody else's code. So there is one function that
// stores a field, and it checks.
//
// Addresses are 64-bit numbers that wrap: below a PIE, whose link addresses begin at 0, the image
// has addresses like 0xffffffffff000000. Differences come out right; absolute 32-bit fields can't
// (and are refused for a PIE before this).
//
// Fields that are filled per process are zero in the file. An image that was mapped and not filled
// then crashes at address 0 instead of working by accident.

#include "link/relocate.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/error.h"
#include "link/route.h"
#include "link/thread_local.h"

namespace qp::link {
namespace {

using elf::RelocType;

// What fits in a field depends on how the processor, or the program, widens it again.
enum class Widened : uint8_t { Signed, Zero, Either };

Widened widening_of(RelocType type) {
  switch (type) {
    case RelocType::R32:
    case RelocType::SIZE32:
      return Widened::Zero;
    case RelocType::R16:
    case RelocType::R8:
      return Widened::Either;  // data; the psABI leaves it open
    default:
      return Widened::Signed;
  }
}

bool fits(int64_t value, unsigned width, Widened widened) {
  if (width == 8) {
    return true;
  }
  const int64_t half = int64_t{1} << (width * 8 - 1);
  const int64_t low = widened == Widened::Zero ? 0 : -half;
  const int64_t high = widened == Widened::Signed ? half : 2 * half;
  return low <= value && value < high;
}

class Relocator {
 public:
  Relocator(const format::Patch& patch, const Layout& layout, const ThreadLocals& elsewhere,
            Report& report)
      : patch_(patch), layout_(layout), elsewhere_(elsewhere), report_(report) {}

  Content make() {
    for (Part part : {kRodata, kText, kTlsData, kGot, kDataRelRo, kData, kBss}) {
      // int3 between functions: whoever gets there by mistake stops at once.
      out_.parts[part].assign(layout_.parts[part].size,
                              part == kText ? std::byte{0xcc} : std::byte{0});
    }
    for (id_ = 0; id_ < patch_.fresh.atoms.size(); ++id_) {
      const elf::Atom& atom = patch_.fresh.atoms[id_];
      if (atom.storage == elf::Storage::TlsBss) {
        continue;  // it is nowhere
      }
      part_ = layout_.part_of[id_];
      at_ = layout_.atoms[id_].value - layout_.parts[part_].address.value;
      if (elf::has_bytes(atom.storage)) {
        store_bytes(out_.parts[part_], at_, atom.bytes);
      }
      for (const elf::Ref& ref : atom.refs) {
        relocate(atom, ref);
      }
    }
    make_got();
    make_tls_words();
    make_veneers();
    if (layout_.hook_return) {
      store_bytes(out_.parts[kText],
                  layout_.hook_return->value - layout_.parts[kText].address.value,
                  std::as_bytes(std::span(kHookReturn)));
    }
    std::sort(out_.fills.begin(), out_.fills.end(),
              [](const Fill& a, const Fill& b) { return a.at < b.at; });
    for (size_t i = 1; i < out_.fills.size(); ++i) {
      if (out_.fills[i].at - out_.fills[i - 1].at < 8) {
        throw bad_file("patch", "two pointers of its data overlap");
      }
    }
    return std::move(out_);
  }

 private:
  // S of everything that has an address before the process runs.
  LinkAddr address_of(elf::AtomSymbolId id) const {
    const elf::AtomSymbol& symbol = patch_.fresh.symbols[id];
    if (symbol.atom) {
      return layout_.atoms[*symbol.atom] + symbol.offset;
    }
    QP_ASSERT(patch_.fresh_bindings[id].kind == elf::BindingKind::Address);
    return patch_.fresh_bindings[id].address;
  }
  bool is_import(elf::AtomSymbolId id) const {
    return !patch_.fresh.symbols[id].atom &&
           patch_.fresh_bindings[id].kind == elf::BindingKind::Import;
  }

  void refuse(std::string_view id, const elf::Ref& ref, std::string_view reason) {
    const elf::RelocTraits* traits = elf::find_traits(ref.type);
    report_.refuse(
        id, patch_.fresh.name_of(id_),
        fmt::format("{} at +{:#x}: {}",
                    traits != nullptr ? std::string(traits->name)
                                      : fmt::format("type {}", static_cast<uint32_t>(ref.type)),
                    ref.at, reason));
  }

  void relocate(const elf::Atom& atom, const elf::Ref& ref) {
    const Route route = find_route(patch_, atom, ref);
    const auto& binding = patch_.fresh_bindings[ref.symbol];
    const bool pc_relative = route.way != Way::Refused && elf::find_traits(ref.type)->pc_relative;
    switch (route.way) {
      case Way::Nothing:
        return;
      case Way::Refused:
        refuse(route.refusal, ref, route.reason);
        return;
      case Way::Direct:
        put(ref, address_of(ref.symbol), pc_relative);
        return;
      case Way::Stub:
        put(ref, binding.stub, true);
        return;
      case Way::Veneer:
        put(ref, layout_.veneer(ref.symbol), true);
        return;
      case Way::Slot:
        put(ref, layout_.slot(ref.symbol), true);
        return;
      case Way::TpSlot:
        put(ref, layout_.tls_slot(ref.symbol), true);
        return;
      case Way::OwnSlot:
        put(ref, binding.got_slot, true);
        return;
      case Way::TlsIndex:
        check_block(ref, ref.type == RelocType::TLSLD);
        put(ref, layout_.tls_index(ref.symbol, ref.type == RelocType::TLSLD), true);
        return;
      case Way::TlsDescriptor:
        put(ref, layout_.tls_descriptor(ref.symbol), true);
        return;
      case Way::BlockOffset:
        check_block(ref, true);
        put(ref, LinkAddr(block_offset(ref.symbol)), false);
        return;
      case Way::LocalExec:
        make_local_exec(atom, ref);
        return;
      case Way::TpOffset:
        put(ref, LinkAddr(static_cast<uint64_t>(binding.tp_offset)), false);
        return;
      case Way::Size:
        put(ref, LinkAddr(patch_.fresh.symbols[ref.symbol].size), false);
        return;
      case Way::Word: {
        QP_ASSERT(is_writable(part_));
        store(ByteSpan(out_.parts[part_]), field(ref, 8), uint64_t{0});
        add_fill(layout_.atoms[id_] + ref.at, ref.symbol, ref.addend);
        return;
      }
    }
  }

  // Offset of a field in its part; it must lie inside of the atom.
  uint64_t field(const elf::Ref& ref, unsigned width) const {
    const elf::Atom& atom = patch_.fresh.atoms[id_];
    if (ref.at > atom.bytes.size() || width > atom.bytes.size() - ref.at) {
      throw bad_file("patch", fmt::format("a relocation at +{:#x} lies outside of {}", ref.at,
                                          patch_.fresh.name_of(id_)));
    }
    return at_ + ref.at;
  }

  // S + A, or S + A − P.
  void put(const elf::Ref& ref, LinkAddr s, bool pc_relative) {
    const unsigned width = elf::find_traits(ref.type)->width;
    const LinkAddr p = layout_.atoms[id_] + ref.at;
    uint64_t wrapped = s.value + static_cast<uint64_t>(ref.addend) - (pc_relative ? p.value : 0);
    auto value = static_cast<int64_t>(wrapped);
    const uint64_t at = field(ref, width);
    if (!fits(value, width, widening_of(ref.type))) {
      refuse("reloc-range", ref,
             fmt::format("{:#x} for {} does not fit in {} bytes", value,
                         patch_.fresh.symbols[ref.symbol].name, width));
      return;
    }
    store_bytes(out_.parts[part_], at, std::as_bytes(std::span(&value, 1)).first(width));
  }

  // Code that asks for the start of a block, and takes several variables from it.
  void check_block(const elf::Ref& ref, bool by_start) {
    if (by_start && elsewhere_.contains(ref.symbol)) {
      refuse("tls-unsupported", ref,
             fmt::format(
                 "{} is in the block of an earlier patch, and the code takes it from one block "
                 "with others; declare it with "
                 "__attribute__((tls_model(\"global-dynamic\"))), and compile with GCC",
                 patch_.fresh.symbols[ref.symbol].name));
    }
  }

  // The description of the block of a new thread-local variable, and its place there.
  BlockPlace find_block(elf::AtomSymbolId id) const {
    const auto known = elsewhere_.find(id);
    return known != elsewhere_.end() ? known->second
                                     : BlockPlace{layout_.tls.description, block_offset(id)};
  }

  uint64_t block_offset(elf::AtomSymbolId id) const {
    const elf::AtomSymbol& symbol = patch_.fresh.symbols[id];
    return layout_.tls.offsets[*symbol.atom] + symbol.offset;
  }

  void make_local_exec(const elf::Atom& atom, const elf::Ref& ref) {
    const int64_t offset = patch_.fresh_bindings[ref.symbol].tp_offset;
    if (!fits(offset, 4, Widened::Signed)) {
      refuse("reloc-range", ref, fmt::format("{:#x} does not fit in 4 bytes", offset));
      return;
    }
    const ByteSpan code = ByteSpan(out_.parts[part_]).subspan(at_, atom.bytes.size());
    write_local_exec(code, ref, static_cast<int32_t>(offset));
  }

  void add_address(LinkAddr at, LinkAddr address) {
    Fill fill;
    fill.at = at;
    fill.address = address;
    out_.fills.push_back(fill);
  }

  void add_thread_local(LinkAddr at, Fill::Kind kind, elf::AtomSymbolId symbol) {
    Fill fill;
    fill.at = at;
    fill.kind = kind;
    fill.import = symbol;
    out_.fills.push_back(fill);
  }

  void put_word(LinkAddr at, uint64_t value) {
    store(ByteSpan(out_.parts[kGot]), at.value - layout_.parts[kGot].address.value, value);
  }

  void make_tls_words() {
    const TlsBlock& block = layout_.tls;
    if (block.any) {
      add_address(block.description, layout_.parts[kTlsData].address);
      put_word(block.description + kSlotSize, block.initialised);
      put_word(block.description + 2 * kSlotSize, block.size);
    }
    for (const auto& [symbol, start] : layout_.slots.indexes) {
      const LinkAddr at = layout_.tls_index(symbol, start);
      if (patch_.fresh.symbols[symbol].atom) {
        const BlockPlace place = find_block(symbol);
        add_address(at, place.description);
        put_word(at + kSlotSize, start ? 0 : place.offset);
      } else if (is_import(symbol)) {
        add_thread_local(at, Fill::Kind::TlsModule, symbol);
        add_thread_local(at + kSlotSize, Fill::Kind::TlsOffset, symbol);
      } else {
        add_thread_local(at, Fill::Kind::OwnTlsModule, symbol);
        const int64_t offset = patch_.fresh_bindings[symbol].tp_offset;
        put_word(at + kSlotSize, start ? 0 : static_cast<uint64_t>(offset));
      }
    }
    for (elf::AtomSymbolId symbol : layout_.slots.descriptors) {
      const LinkAddr at = layout_.tls_descriptor(symbol);
      add_address(at, address_of(*find_runtime_symbol(patch_, kTlsDescriptor)));
      const BlockPlace place = find_block(symbol);
      add_address(at + kSlotSize, place.description);
      put_word(at + 2 * kSlotSize, place.offset);
    }
  }

  void add_fill(LinkAddr at, elf::AtomSymbolId symbol, int64_t addend) {
    Fill fill;
    fill.at = at;
    if (is_import(symbol)) {
      fill.kind = Fill::Kind::Import;
      fill.import = symbol;
      fill.addend = addend;
    } else {
      fill.kind = Fill::Kind::Address;
      fill.address = address_of(symbol) + static_cast<uint64_t>(addend);
    }
    out_.fills.push_back(fill);
  }

  void make_got() {
    for (elf::AtomSymbolId symbol : layout_.slots.words) {
      add_fill(layout_.slot(symbol), symbol, 0);
    }
    for (elf::AtomSymbolId symbol : layout_.slots.tls) {
      if (is_import(symbol)) {
        add_thread_local(layout_.tls_slot(symbol), Fill::Kind::TpOffset, symbol);
      } else {
        put_word(layout_.tls_slot(symbol),
                 static_cast<uint64_t>(patch_.fresh_bindings[symbol].tp_offset));
      }
    }
  }

  void make_veneers() {
    for (elf::AtomSymbolId symbol : layout_.slots.veneers) {
      const LinkAddr at = layout_.veneer(symbol);
      const int64_t distance = layout_.slot(symbol) - (at + 6);
      QP_ASSERT(fits(distance, 4, Widened::Signed));
      Bytes code;
      append(code, uint8_t{0xff});  // jmp *slot(%rip)
      append(code, uint8_t{0x25});
      append(code, static_cast<int32_t>(distance));
      store_bytes(out_.parts[kText], at.value - layout_.parts[kText].address.value, code);
    }
  }

  const format::Patch& patch_;
  const Layout& layout_;
  const ThreadLocals& elsewhere_;
  Report& report_;
  Content out_;
  elf::AtomId id_ = 0;
  Part part_ = kText;
  uint64_t at_ = 0;  // of the current atom in its part
};

}  // namespace

Content make_content(const format::Patch& patch, const Layout& layout,
                     const ThreadLocals& elsewhere, Report& report) {
  return Relocator(patch, layout, elsewhere, report).make();
}

}  // namespace qp::link
