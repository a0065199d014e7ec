// Lays out an image.
//
//     base  R--  ELF header, program headers, build-id note, unwind tables, read-only data
//           R-X  functions, then veneers
//           RW-  zeros, if there are many; not in the file
//           RW-  registry, GOT, data with pointers, data, a few zeros
//
// Each segment starts on a page of its own, and the file looks like memory. The few zeros of an
// ordinary .bss are in the file and share the last page of the data. A large array would cost disk,
// page cache and reading, so it becomes a segment without content, for which the process maps
// anonymous memory. That has no name in maps, so it lies between segments that have one: what belongs
// to the image can be told from what a process mapped behind it.
//
// Nothing is both writable and executable, and there is no RELRO step: what needs a fill (a pointer
// in otherwise constant data, a GOT slot) lives in the writable segment for good. It costs the
// hardening of a few words, and saves a second mprotect in the process and a state in which they
// differ.
//
// The layout is made twice: without an address, to know how much room to look for, and at the place
// that was found. Both must have the same size. So nothing here may depend on the base other than
// by adding it, and alignments above a page are refused: load biases are multiples of a page.

#include "link/layout.h"

#include <fmt/format.h>

#include "base/error.h"
#include "link/route.h"

namespace qp::link {
namespace {

// An image is mapped from tmpfs and read whole; far below what ±2 GiB would allow.
constexpr uint64_t kLargestImage = uint64_t{256} << 20;
constexpr uint64_t kFewZeros = uint64_t{64} << 10, kMostZeros = uint64_t{1} << 30;

bool needs_fill(const elf::Atom& atom) {
  for (const elf::Ref& ref : atom.refs) {
    if (ref.type == elf::RelocType::R64) {
      return true;
    }
  }
  return false;
}

Part choose_part(const elf::Atom& atom, Part zeros) {
  switch (atom.storage) {
    case elf::Storage::Text:
      return kText;
    case elf::Storage::ReadOnly:
      return needs_fill(atom) ? kDataRelRo : kRodata;
    case elf::Storage::RelRo:
      return kDataRelRo;
    case elf::Storage::TlsData:
    case elf::Storage::TlsBss:
      return kTlsData;
    case elf::Storage::Bss:
      return zeros;
    default:
      return kData;
  }
}

uint64_t alignment_of(const elf::Atom& atom) {
  uint64_t alignment = std::max<uint64_t>(atom.alignment, 1);
  if (atom.storage == elf::Storage::Text && atom.kind == elf::AtomKind::Function) {
    alignment = std::max<uint64_t>(alignment, 16);
  }
  return alignment;
}

bool is_usable(uint64_t alignment) {
  return alignment <= kPageSize && (alignment & (alignment - 1)) == 0;
}

// An alignment that is refused must not break the layout before the findings are reported.
uint64_t usable_alignment(const elf::Atom& atom) {
  return is_usable(alignment_of(atom)) ? alignment_of(atom) : 16;
}

void check_atom(const format::Patch& patch, elf::AtomId id, Report& report) {
  const elf::Atom& atom = patch.fresh.atoms[id];
  const std::string& name = patch.fresh.name_of(id);
  if (!is_usable(alignment_of(atom))) {
    report.refuse("object-unsupported", name,
                  fmt::format("it asks for an alignment of {} bytes; a page is the most that an "
                              "image can keep",
                              atom.alignment));
  }
  if (has_bytes(atom.storage) ? atom.bytes.size() != atom.size
                              : !atom.bytes.empty() || !atom.refs.empty()) {
    throw bad_file("patch", fmt::format("the content of {} does not have its size", name));
  }
  for (const elf::FrameEntry& frame : atom.frames) {
    if (frame.offset > atom.size || frame.size > atom.size - frame.offset) {
      throw bad_file("patch", fmt::format("an unwind entry of {} reaches outside of it", name));
    }
  }
}

template <class T>
void want(const T& what, std::vector<T>& list, std::map<T, size_t>& index) {
  if (index.try_emplace(what, list.size()).second) {
    list.push_back(what);
  }
}

// A direct encoding can't reach a routine of another module; a slot can.
bool frame_needs_slot(const format::Patch& patch, const elf::Ref& ref) {
  QP_ASSERT(ref.symbol < patch.fresh.symbols.size());
  return !patch.fresh.symbols[ref.symbol].atom &&
         patch.fresh_bindings[ref.symbol].kind == elf::BindingKind::Import;
}

Slots count_slots(const format::Patch& patch) {
  Slots slots;
  for (const elf::Atom& atom : patch.fresh.atoms) {
    for (const elf::Ref& ref : atom.refs) {
      switch (find_route(patch, atom, ref).way) {
        case Way::Slot:
          want(ref.symbol, slots.words, slots.word_of);
          break;
        case Way::TpSlot:
          want(ref.symbol, slots.tls, slots.tls_of);
          break;
        case Way::TlsIndex:
          want({ref.symbol, ref.type == elf::RelocType::TLSLD}, slots.indexes, slots.index_of);
          break;
        case Way::TlsDescriptor:
          want(ref.symbol, slots.descriptors, slots.descriptor_of);
          break;
        case Way::Veneer:
          want(ref.symbol, slots.words, slots.word_of);
          want(ref.symbol, slots.veneers, slots.veneer_of);
          break;
        default:
          break;
      }
    }
    for (const elf::FrameEntry& frame : atom.frames) {
      if (frame.personality && frame_needs_slot(patch, *frame.personality)) {
        want(frame.personality->symbol, slots.words, slots.word_of);
      }
    }
  }
  return slots;
}

// Hands out addresses from front to back.
class Cursor {
 public:
  explicit Cursor(LinkAddr base) : base_(base) {}
  LinkAddr take(uint64_t size, uint64_t alignment) {
    QP_ASSERT(alignment != 0 && (alignment & (alignment - 1)) == 0);
    used_ = align_up(used_, alignment);
    LinkAddr at = base_ + used_;
    if (size > limit_ || (used_ += size) > limit_) {
      throw bad_file("patch", fmt::format("its image would exceed {} MiB", limit_ >> 20));
    }
    return at;
  }
  void allow(uint64_t more) { limit_ += more; }
  LinkAddr here() const { return base_ + used_; }

 private:
  LinkAddr base_;
  uint64_t used_ = 0, limit_ = kLargestImage;
};

// Of all zero-initialised variables. More than there can be: more than anybody has memory for.
uint64_t count_zeros(const format::Patch& patch) {
  uint64_t zeros = 0;
  for (const elf::Atom& atom : patch.fresh.atoms) {
    if (atom.storage == elf::Storage::Bss) {
      zeros += std::min<uint64_t>(atom.size, 2 * kMostZeros) + usable_alignment(atom);
    }
  }
  return zeros;
}

void check_zeros(const format::Patch& patch, Report& report) {
  if (count_zeros(patch) <= kMostZeros) {
    return;
  }
  for (elf::AtomId id = 0; id < patch.fresh.atoms.size(); ++id) {
    const elf::Atom& atom = patch.fresh.atoms[id];
    if (atom.storage == elf::Storage::Bss && atom.size > kFewZeros) {
      report.refuse("object-unsupported", patch.fresh.name_of(id),
                    fmt::format("it has {} bytes; all new variables together may have {} MiB, "
                                "since an image must lie within 2 GiB of its target",
                                atom.size, kMostZeros >> 20));
    }
  }
}

class Planner {
 public:
  Planner(const format::Patch& patch, LinkAddr base) : patch_(patch), cursor_(base) {
    out_.base = base;
    out_.slots = count_slots(patch);
    out_.atoms.resize(patch.fresh.atoms.size());
    const uint64_t zeros = count_zeros(patch);
    for (const elf::Atom& atom : patch.fresh.atoms) {
      out_.part_of.push_back(choose_part(atom, zeros > kFewZeros ? kZeros : kBss));
    }
    out_.tls.offsets.resize(patch.fresh.atoms.size());
  }

  void place(Part part, uint64_t size, uint64_t alignment) {
    out_.parts[part] = {cursor_.take(size, alignment), size, alignment};
  }

  void place_atoms(Part part) {
    uint64_t strictest = part == kText ? 16 : 1;
    for (elf::AtomId id = 0; id < patch_.fresh.atoms.size(); ++id) {
      if (out_.part_of[id] == part) {
        strictest = std::max(strictest, usable_alignment(patch_.fresh.atoms[id]));
      }
    }
    LinkAddr start = cursor_.take(0, strictest);
    for (elf::AtomId id = 0; id < patch_.fresh.atoms.size(); ++id) {
      if (out_.part_of[id] == part) {
        const elf::Atom& atom = patch_.fresh.atoms[id];
        out_.atoms[id] = cursor_.take(atom.size, usable_alignment(atom));
      }
    }
    if (part == kText) {
      out_.veneers = cursor_.take(out_.slots.veneers.size() * kVeneerSize, 16);
      if (!patch_.hooks.empty()) {
        out_.hook_return = cursor_.take(kHookReturn.size(), 16);
      }
    }
    out_.parts[part] = {start, cursor_.here().value - start.value, strictest};
  }

  // What is initialised comes first and is the content of kTlsData; the rest of the block is in no
  // file.
  void place_thread_locals() {
    TlsBlock& block = out_.tls;
    uint64_t used = 0;
    for (const auto storage : {elf::Storage::TlsData, elf::Storage::TlsBss}) {
      for (elf::AtomId id = 0; id < patch_.fresh.atoms.size(); ++id) {
        const elf::Atom& atom = patch_.fresh.atoms[id];
        if (atom.storage != storage) {
          continue;
        }
        block.any = true;
        block.offsets[id] = align_up(used, usable_alignment(atom));
        if (atom.size > kLargestImage || block.offsets[id] > kLargestImage) {
          throw bad_file("patch", "its thread-local variables are too large");
        }
        used = block.offsets[id] + atom.size;
      }
      if (storage == elf::Storage::TlsData) {
        block.initialised = used;
      }
    }
    block.size = used;
    place(kTlsData, block.initialised, 16);
    for (elf::AtomId id = 0; id < patch_.fresh.atoms.size(); ++id) {
      if (out_.part_of[id] == kTlsData) {
        out_.atoms[id] = out_.parts[kTlsData].address + block.offsets[id];
      }
    }
  }

  void place_got() {
    const Slots& slots = out_.slots;
    const uint64_t words = slots.words.size() + slots.tls.size();
    const uint64_t description = out_.tls.any ? kDescriptionSize : 0;
    place(kGot,
          words * kSlotSize + description + slots.indexes.size() * kIndexSize +
              slots.descriptors.size() * kDescriptorSize,
          kSlotSize);
    out_.tls.description = out_.parts[kGot].address + words * kSlotSize;
    out_.indexes = out_.tls.description + description;
    out_.descriptors = out_.indexes + slots.indexes.size() * kIndexSize;
  }

  // A segment from `start` to the next page boundary, unless it is empty.
  void close_segment(LinkAddr start, uint32_t flags) {
    LinkAddr end = cursor_.take(0, kPageSize);
    if (end != start) {
      const uint64_t size = end.value - start.value;
      out_.segments.push_back({start, size, out_.offset_of(start), size, flags});
    }
  }
  // What is too large (and refused) is not placed.
  void place_zeros() {
    const uint64_t zeros = count_zeros(patch_);
    if (zeros <= kFewZeros || zeros > kMostZeros) {
      return;
    }
    const LinkAddr start = here();
    cursor_.allow(align_up(zeros, kPageSize));
    place_atoms(kZeros);
    close_segment(start, elf::kSegR | elf::kSegW);
    out_.segments.back().file_size = 0;
    out_.zeros = out_.segments.back().memory_size;
  }
  LinkAddr here() const { return cursor_.here(); }
  Layout& out() { return out_; }

 private:
  const format::Patch& patch_;
  Cursor cursor_;
  Layout out_;
};

const elf::FrameEntry& veneer_frame() {
  static const elf::FrameEntry entry = call_target_frame(kVeneerSize);
  return entry;
}

const elf::FrameEntry& hook_return_frame() {
  static const elf::FrameEntry entry = outermost_frame(kHookReturn.size());
  return entry;
}

}  // namespace

std::vector<DescribedRange> described_ranges(const format::Patch& patch, const Layout& layout) {
  std::vector<DescribedRange> ranges;
  for (elf::AtomId id = 0; id < patch.fresh.atoms.size(); ++id) {
    for (const elf::FrameEntry& frame : patch.fresh.atoms[id].frames) {
      ranges.push_back({&frame, layout.atoms[id] + frame.offset, patch.fresh.name_of(id)});
    }
  }
  for (size_t i = 0; i < layout.slots.veneers.size(); ++i) {
    ranges.push_back({&veneer_frame(), layout.veneers + i * kVeneerSize, "veneer"});
  }
  if (!patch.hooks.empty()) {
    ranges.push_back({&hook_return_frame(), layout.hook_return.value_or(layout.base), "hooks"});
  }
  return ranges;
}

FramePointer find_frame_pointer(const format::Patch& patch, const Layout& layout,
                                const elf::Ref& ref, bool indirect, std::string_view function,
                                Report& report) {
  const elf::AtomSymbol& symbol = patch.fresh.symbols[ref.symbol];
  const elf::Binding& binding = patch.fresh_bindings[ref.symbol];
  auto addend = static_cast<uint64_t>(ref.addend);
  if (symbol.atom) {
    return {layout.atoms[*symbol.atom] + symbol.offset + addend, indirect};
  }
  if (binding.kind == elf::BindingKind::Address) {
    return {binding.address + addend, indirect};
  }
  if (binding.kind == elf::BindingKind::Import && layout.slots.word_of.contains(ref.symbol) &&
      !indirect && ref.addend == 0) {
    return {layout.slot(ref.symbol), true};
  }
  if (binding.kind == elf::BindingKind::Unbound) {
    report.refuse(
        "symbol-unbound", std::string(function),
        fmt::format("nothing says where {} is, to which its unwind entry refers", symbol.name));
  } else {
    report.refuse("reloc-unsupported", std::string(function),
                  fmt::format("its unwind entry refers to {} in another module", symbol.name));
  }
  return {layout.base, indirect};
}

Layout lay_out(const format::Patch& patch, LinkAddr base, uint64_t registry_size, Report& report) {
  QP_ASSERT(base.value % kPageSize == 0);
  for (elf::AtomId id = 0; id < patch.fresh.atoms.size(); ++id) {
    check_atom(patch, id, report);
  }
  check_zeros(patch, report);
  Planner planner(patch, base);

  LinkAddr start = base;
  planner.place(kNote, kHeaderRoom + kNoteSize, 1);
  planner.out().parts[kNote] = {base + kHeaderRoom, kNoteSize, 4};
  // The sizes of the unwind tables, for which any addresses do.
  Report ignored;
  FrameTables frames = write_frames(
      described_ranges(patch, planner.out()), base, base,
      [&](const elf::Ref&, bool, std::string_view) {
        return FramePointer{base, false};
      },
      ignored);
  planner.place(kEhFrameHdr, frames.eh_frame_hdr.size(), 4);
  planner.place(kEhFrame, frames.eh_frame.size(), 8);
  planner.place_atoms(kRodata);
  planner.close_segment(start, elf::kSegR);

  start = planner.here();
  planner.place_atoms(kText);
  planner.close_segment(start, elf::kSegR | elf::kSegX);

  planner.place_zeros();

  start = planner.here();
  planner.place(kRegistry, registry_size, 16);
  planner.place_thread_locals();
  planner.place_got();
  planner.place_atoms(kDataRelRo);
  planner.place_atoms(kData);
  planner.place_atoms(kBss);
  planner.close_segment(start, elf::kSegR | elf::kSegW);

  Layout out = std::move(planner.out());
  out.range = {base, planner.here()};
  return out;
}

}  // namespace qp::link
