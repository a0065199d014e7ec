// Reads .eh_frame of an object file, record by record.
//
// A function's unwind entry has to travel with it into the image, and a change of it is a change of
// the function. libdw reads call frame information of linked files well, but in an object the
// interesting part is in the relocations: which function a record describes is known only from the
// relocation of its pc_begin field. So this is done by hand.
//
// The format (LSB core 5.0, "Exception Frames"; DWARF 5 section 6.4): records of a length word and
// an id word. Id 0 is a CIE, which holds what many functions have in common; anything else is the
// distance back to the CIE of an FDE. The augmentation string says what follows: 'z' (a length
// follows), 'R' (encoding of addresses), 'P' (personality), 'L' (encoding of the LSDA pointer), 'S'
// (signal frame). Records are padded with DW_CFA_nop, which is a zero byte; but a zero byte at the
// end is not always padding (the operand of DW_CFA_def_cfa_offset 0 is one), so instructions are
// decoded to find where they really end.
//
// Promised: every relocation of .eh_frame ends up in a record, or the file is refused. A record
// whose meaning is not fully understood is an error, never skipped.

#include <dwarf.h>
#include <elf.h>

#include <algorithm>
#include <map>

#include <fmt/format.h>

#include "base/error.h"
#include "elf/cfi.h"

namespace qp::elf {
namespace {

// Bytes of a field with this DW_EH_PE_* encoding.
uint64_t encoded_size(uint8_t encoding, const std::string& file) {
  switch (encoding & 0x0f) {
    case DW_EH_PE_absptr:
    case DW_EH_PE_udata8:
    case DW_EH_PE_sdata8:
      return 8;
    case DW_EH_PE_udata4:
    case DW_EH_PE_sdata4:
      return 4;
    default:
      throw bad_file(file, fmt::format(".eh_frame has pointers of the encoding {:#x}", encoding));
  }
}

void skip_operands(ByteCursor& c, uint8_t op, const std::string& file) {
  auto block = [&] { c.take(c.read_uleb128()); };
  switch (op & 0xc0) {
    case DW_CFA_advance_loc:
    case DW_CFA_restore:
      return;
    case DW_CFA_offset:
      c.read_uleb128();
      return;
    default:
      break;
  }
  switch (op) {
    case DW_CFA_nop:
    case DW_CFA_remember_state:
    case DW_CFA_restore_state:
      return;
    case DW_CFA_advance_loc1:
      c.take(1);
      return;
    case DW_CFA_advance_loc2:
      c.take(2);
      return;
    case DW_CFA_advance_loc4:
      c.take(4);
      return;
    case DW_CFA_restore_extended:
    case DW_CFA_undefined:
    case DW_CFA_same_value:
    case DW_CFA_def_cfa_register:
    case DW_CFA_def_cfa_offset:
    case DW_CFA_def_cfa_offset_sf:
    case DW_CFA_GNU_args_size:
      c.read_uleb128();
      return;
    case DW_CFA_offset_extended:
    case DW_CFA_register:
    case DW_CFA_def_cfa:
    case DW_CFA_offset_extended_sf:
    case DW_CFA_def_cfa_sf:
    case DW_CFA_val_offset:
    case DW_CFA_val_offset_sf:
    case DW_CFA_GNU_negative_offset_extended:
      c.read_uleb128();
      c.read_uleb128();
      return;
    case DW_CFA_def_cfa_expression:
      block();
      return;
    case DW_CFA_expression:
    case DW_CFA_val_expression:
      c.read_uleb128();
      block();
      return;
    default:
      throw bad_file(file, fmt::format("unknown call frame instruction {:#x} in .eh_frame", op));
  }
}

// `instructions` without the DW_CFA_nop that pad them.
ByteView trim_nops(ByteView instructions, const std::string& file) {
  ByteCursor c(instructions, file);
  uint64_t end = 0;
  while (!c.done()) {
    auto op = c.read<uint8_t>();
    skip_operands(c, op, file);
    if (op != DW_CFA_nop) {
      end = c.offset();
    }
  }
  return instructions.first(end);
}

struct Cie {
  Bytes body;
  bool sized_augmentation = false;
  uint8_t pointer_encoding = DW_EH_PE_absptr, lsda_encoding = DW_EH_PE_omit;
  std::optional<Relocation> personality;
};

class EhFrameReader {
 public:
  EhFrameReader(const File& file, const Section& section)
      : file_(file), bytes_(file.content(section)) {
    for (const Relocation& r : file.relocations(section)) {
      if (r.type != RelocType::None && !relocations_.emplace(r.offset, r).second) {
        throw fail(r.offset, "two relocations of one field");
      }
    }
  }

  void read(std::vector<FrameRecord>& out) {
    ByteCursor c(bytes_, file_.name());
    while (!c.done()) {
      uint64_t start = c.offset();
      auto length = c.read<uint32_t>();
      if (length == 0) {
        break;  // the terminator; crtend.o has it
      }
      if (length == 0xffffffff) {
        throw fail(start, "a record of the 64-bit format");
      }
      uint64_t id_at = c.offset();
      ByteView body = c.take(length);
      auto id = load<uint32_t>(body);
      if (id == 0) {
        cies_.emplace(start, read_cie(id_at + 4, body.subspan(4)));
        continue;
      }
      auto cie = cies_.find(id_at - id);
      if (id > id_at || cie == cies_.end()) {
        throw fail(start, "a record without a CIE");
      }
      out.push_back(read_fde(id_at + 4, body.subspan(4), cie->second));
    }
    if (!relocations_.empty()) {
      throw fail(relocations_.begin()->first, "a relocation that is not understood");
    }
  }

 private:
  Error fail(uint64_t at, std::string_view what) const {
    return bad_file(file_.name(), fmt::format("{} in .eh_frame at offset {}", what, at));
  }

  // Each relocation is taken once; what is left at the end was not understood.
  std::optional<Relocation> take_relocation(uint64_t at, uint64_t width) {
    auto it = relocations_.find(at);
    if (it == relocations_.end()) {
      return std::nullopt;
    }
    Relocation r = it->second;
    const RelocTraits* traits = find_traits(r.type);
    if (traits == nullptr || traits->width != width) {
      throw fail(at, "a relocation that does not fit its field");
    }
    relocations_.erase(it);
    return r;
  }

  static std::optional<Relocation> position_free(std::optional<Relocation> r) {
    if (r) {
      r->offset = 0;
    }
    return r;
  }

  // `at`: offset of `body` in the section.
  Cie read_cie(uint64_t at, ByteView body) {
    Cie cie;
    ByteCursor c(body, file_.name());
    auto version = c.read<uint8_t>();
    if (version != 1 && version != 3) {
      throw fail(at, fmt::format("a CIE of version {}", version));
    }
    std::string_view augmentation = c.read_cstring();
    c.read_uleb128();  // code alignment
    c.read_sleb128();  // data alignment
    if (version == 1) {
      c.read<uint8_t>();  // return address register
    } else {
      c.read_uleb128();
    }
    if (!augmentation.empty()) {
      if (augmentation.front() != 'z') {
        throw fail(at, fmt::format("a CIE with the augmentation \"{}\"", augmentation));
      }
      cie.sized_augmentation = true;
      uint64_t size = c.read_uleb128(), start = c.offset();
      for (char letter : augmentation.substr(1)) {
        read_augmentation(letter, at, c, cie);
      }
      if (c.offset() - start != size) {
        throw fail(at, "a CIE whose augmentation has another size than it says");
      }
    }
    uint64_t head = c.offset();
    cie.body = copy(body.first(head));
    append_bytes(cie.body, trim_nops(body.subspan(head), file_.name()));
    return cie;
  }

  void read_augmentation(char letter, uint64_t at, ByteCursor& c, Cie& cie) {
    switch (letter) {
      case 'R':
        cie.pointer_encoding = c.read<uint8_t>();
        break;
      case 'L':
        cie.lsda_encoding = c.read<uint8_t>();
        break;
      case 'P': {
        uint64_t width = encoded_size(c.read<uint8_t>(), file_.name());
        cie.personality = position_free(take_relocation(at + c.offset(), width));
        if (!cie.personality) {
          throw fail(at, "a personality without a relocation");
        }
        c.take(width);
        break;
      }
      case 'S':
        break;
      default:
        throw fail(at, fmt::format("a CIE with the augmentation letter {:#x}",
                                   static_cast<unsigned char>(letter)));
    }
  }

  FrameRecord read_fde(uint64_t at, ByteView body, const Cie& cie) {
    FrameRecord record;
    ByteCursor c(body, file_.name());
    uint64_t width = encoded_size(cie.pointer_encoding, file_.name());
    auto begin = take_relocation(at, width);
    if (!begin) {
      throw fail(at, "a record without a function");
    }
    bool relative = (cie.pointer_encoding & 0x70) == DW_EH_PE_pcrel;
    if (find_traits(begin->type)->pc_relative != relative || find_traits(begin->type)->via_got) {
      throw fail(at, "a relocation that contradicts the pointer encoding");
    }
    c.take(width);
    record.size = width == 8 ? c.read<uint64_t>() : c.read<uint32_t>();
    const Symbol& symbol = file_.symbols()[begin->symbol];
    record.section = symbol.section;
    record.offset = symbol.value + static_cast<uint64_t>(begin->addend);
    if (symbol.section == kUndefined || symbol.section >= file_.sections().size()) {
      throw fail(at, "a record for a function that is not in the object");
    }
    uint64_t section_size = file_.sections()[symbol.section].size;
    if (record.offset > section_size || record.size > section_size - record.offset) {
      throw fail(at, "a record for a range outside of its section");
    }
    if (cie.sized_augmentation) {
      uint64_t size = c.read_uleb128(), start = c.offset();
      if (cie.lsda_encoding != DW_EH_PE_omit) {
        uint64_t lsda_width = encoded_size(cie.lsda_encoding, file_.name());
        record.lsda = position_free(take_relocation(at + start, lsda_width));
        if (lsda_width != size) {
          throw fail(at, "a record whose augmentation has another size than its CIE says");
        }
      } else if (size != 0) {
        throw fail(at, "a record with unknown augmentation data");
      }
      c.take(size);
    }
    record.cie = cie.body;
    record.personality = cie.personality;
    record.instructions = copy(trim_nops(body.subspan(c.offset()), file_.name()));
    return record;
  }

  const File& file_;
  ByteView bytes_;
  std::map<uint64_t, Relocation> relocations_;
  std::map<uint64_t, Cie> cies_;
};

}  // namespace

std::vector<FrameRecord> read_frame_records(const File& object) {
  std::vector<FrameRecord> out;
  for (const Section& s : object.sections()) {
    bool is_frames = s.name == ".eh_frame" &&
                     (s.type == SectionType::ProgBits || s.type == SectionType::X86Unwind);
    if (is_frames) {
      EhFrameReader(object, s).read(out);
    }
  }
  return out;
}

std::vector<FrameStep> read_frame_steps(ByteView cie, ByteView instructions) {
  ByteCursor head(cie, "CIE");
  head.read<uint8_t>();  // version
  head.read_cstring();   // augmentation
  uint64_t factor = head.read_uleb128();
  std::vector<FrameStep> steps;
  uint64_t location = 0;
  ByteCursor c(instructions, "call frame instructions");
  while (!c.done()) {
    uint64_t start = c.offset();
    auto op = c.read<uint8_t>();
    if ((op & 0xc0) == DW_CFA_advance_loc) {
      location += (op & 0x3fu) * factor;
    } else if (op == DW_CFA_advance_loc1) {
      location += c.read<uint8_t>() * factor;
    } else if (op == DW_CFA_advance_loc2) {
      location += c.read<uint16_t>() * factor;
    } else if (op == DW_CFA_advance_loc4) {
      location += c.read<uint32_t>() * factor;
    } else {
      skip_operands(c, op, ".eh_frame");
      if (op != DW_CFA_nop) {
        steps.push_back({location, copy(instructions.subspan(start, c.offset() - start))});
      }
    }
  }
  return steps;
}

}  // namespace qp::elf
