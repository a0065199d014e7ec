// What a comparison of code leaves to be done when the code is through: the data that it refers to,
// and the places in it that something refers to.
//
// Read-only data is part of what a function does: a string, the coefficients of a polynomial, the
// table of a switch. It is compared by content at the address that the code solved, so that it may
// have been merged with equal data of other files, or share the tail of a longer string. Pointers
// in it solve symbols like code does; in the file of a PIE they are relocations and no bytes.
//
// An entry of a jump table is the distance from the table's start to a label. A relocation can only
// say "distance from the entry", so the compiler puts the entry's offset in the table into the
// addend: label = A - (r_offset - start). Reading it as a plain PC32 would give a place too far
// behind, which is still inside the function often enough to be believed.
//
// Labels are compared by the number of the instruction and not by offset. The list of boundaries of
// each side is complete at that time; a place inside an instruction (a jump behind a lock prefix)
// has to be as far inside on both sides.

#include <fmt/format.h>

#include <algorithm>

#include "match/comparison.h"

namespace qp::match {

using elf::Atom;
using elf::AtomId;
using elf::AtomKind;
using elf::Ref;
using elf::RelocType;

bool Comparison::compare_content(AtomId id, LinkAddr base) {
  const Atom& atom = graph_->atoms[id];
  if (atom.bytes.size() != atom.size) {
    return fail("the object has no content for " + graph_->name_of(id));
  }
  Bytes target(atom.size);
  const size_t got = target_->memory.read_some(base, target);
  if (got < atom.size) {
    return fail(fmt::format("{} is not mapped in the target at {:#x}", graph_->name_of(id),
                            base.value + got));
  }
  uint64_t at = 0;
  const auto compare_up_to = [&](uint64_t end) {
    const auto [a, b] = std::mismatch(atom.bytes.begin() + static_cast<ptrdiff_t>(at),
                                      atom.bytes.begin() + static_cast<ptrdiff_t>(end),
                                      target.begin() + static_cast<ptrdiff_t>(at));
    const auto differs = static_cast<uint64_t>(a - atom.bytes.begin());
    if (differs == end) {
      return true;
    }
    static_cast<void>(b);
    const uint64_t shown = std::min<uint64_t>(end - differs, 16);
    return fail(fmt::format("it refers to {}, which has {} at offset {:#x}; the target has {}",
                            graph_->name_of(id), hex(slice(atom.bytes, differs, shown)), differs,
                            hex(slice(target, differs, shown))));
  };
  for (const Ref& ref : atom.refs) {
    const elf::RelocTraits* traits = elf::find_traits(ref.type);
    if (traits == nullptr || ref.at < at || ref.at > atom.size ||
        traits->width > atom.size - ref.at) {
      return fail("a relocation of " + graph_->name_of(id) + " does not fit");
    }
    if (ref.type == RelocType::None) {
      continue;
    }
    if (!compare_up_to(ref.at) || !compare_data_ref(atom, ref, base, target)) {
      return false;
    }
    at = ref.at + traits->width;
  }
  return compare_up_to(atom.size);
}

bool Comparison::compare_data_ref(const Atom& atom, const Ref& ref, LinkAddr base,
                                  ByteView target) {
  const LinkAddr place = base + ref.at;
  switch (ref.type) {
    case RelocType::R64:
      return refer_by_pointer(ref.symbol, ref.addend, place);
    case RelocType::R32:
      return refer_to(ref.symbol, ref.addend, LinkAddr(load<uint32_t>(target, ref.at)));
    case RelocType::R32S:
      return refer_to(ref.symbol, ref.addend,
                      LinkAddr(static_cast<uint64_t>(int64_t{load<int32_t>(target, ref.at)})));
    case RelocType::PC32:
    case RelocType::PLT32: {
      const auto value = static_cast<uint64_t>(int64_t{load<int32_t>(target, ref.at)});
      // An entry of a jump table counts from the start of the table: its addend holds the entry's
      // own offset beside the label's.
      if (atom.kind == AtomKind::JumpTable) {
        return refer_to(ref.symbol, ref.addend - static_cast<int64_t>(ref.at), base + value);
      }
      return refer_to(ref.symbol, ref.addend, place + value);
    }
    case RelocType::PC64:
      return refer_to(ref.symbol, ref.addend, place + load<uint64_t>(target, ref.at));
    case RelocType::SIZE32:
      return refer_size(ref.symbol, ref.addend, load<int32_t>(target, ref.at));
    case RelocType::SIZE64:
      return refer_size(ref.symbol, ref.addend, load<int64_t>(target, ref.at));
    default:
      return fail("data of this relocation type can't be compared");
  }
}

bool Comparison::compare_contents() {
  if (difference_) {
    return false;
  }
  while (!contents_.empty()) {
    const auto [id, base] = contents_.back();
    site_ = content_sites_.back();
    contents_.pop_back();
    content_sites_.pop_back();
    if (!compare_content(id, base)) {
      return false;
    }
  }
  return true;
}

bool Comparison::finish(bool whole_unit) {
  return compare_contents() && resolve_module_offsets(whole_unit) && check_labels(whole_unit);
}

bool Comparison::resolve_module_offsets(bool whole_unit) {
  for (const ModuleOffset& offset : module_offsets_) {
    site_ = offset.site;
    switch (module_block_) {
      case ModuleBlock::Relaxed:
        if (!refer_tp_offset(offset.symbol, 0, offset.value + module_block_offset_)) {
          return false;
        }
        break;
      case ModuleBlock::Called:
        if (!refer_module_offset(offset.symbol, offset.value)) {
          return false;
        }
        break;
      case ModuleBlock::Unknown:
        if (whole_unit) {
          return fail("an offset into the TLS block, but nothing finds the block");
        }
        break;
    }
  }
  return true;
}

bool Comparison::check_labels(bool whole_unit) {
  if (difference_) {
    return false;
  }
  struct Place {
    uint32_t number;
    uint64_t inside;  // of that instruction: a jump over its own prefix
  };
  const auto find_place = [](const std::vector<Boundary>& boundaries, uint64_t offset) {
    const auto above =
        std::upper_bound(boundaries.begin(), boundaries.end(), offset,
                         [](uint64_t wanted, const Boundary& b) { return wanted < b.offset; });
    if (above == boundaries.begin()) {
      return Place{~0u, 0};
    }
    return Place{std::prev(above)->number, offset - std::prev(above)->offset};
  };
  for (const Label& label : labels_) {
    const auto placed = std::find_if(placed_.begin(), placed_.end(),
                                     [&](const Placed& p) { return p.function == label.function; });
    site_ = label.site;
    if (placed == placed_.end()) {
      if (whole_unit) {
        return fail("it leads into " + graph_->name_of(label.function) +
                    ", which was not found in the target");
      }
      continue;
    }
    const Place a = find_place(placed->original, label.offset);
    const bool below = label.target < placed->start;
    const Place b =
        below ? Place{~0u, 0}
              : find_place(placed->target, static_cast<uint64_t>(label.target - placed->start));
    if (below || a.number != b.number || a.inside != b.inside) {
      return fail(fmt::format("it leads to {}+{:#x}, the target's to another instruction ({:#x})",
                              graph_->name_of(label.function), label.offset, label.target.value));
    }
  }
  return true;
}

}  // namespace qp::match
