// Which ranges the unwind records of a linked file describe.
//
// libdw answers "which rules hold at this address", and with it the range of addresses that share
// these rules, which is a few instructions. It does not tell where the record, and so the function
// (or its cold piece), begins and ends. That is read here: all records are walked once and their
// pc_begin and pc_range kept.
//
// Where .eh_frame is: in its section, or, without section headers, where PT_GNU_EH_FRAME points
// (LSB core 5.0, "Exception Frame Header": version, three encodings, then the encoded address). In
// the second case its end is not known; it ends with a zero word, which crtend.o supplies.
//
// A damaged record can't be skipped, since its length is what says where the next one is. The walk
// ends there, and addresses behind it have no range; nobody takes that for a proof of anything.

#include "elf/frame_ranges.h"

#include <dwarf.h>

#include <algorithm>
#include <map>
#include <optional>

#include "base/error.h"
#include "elf/tables.h"

namespace qp::elf {
namespace {

struct EhFrame {
  ByteView bytes;
  LinkAddr address;
};

// A pointer of the encodings that linkers use; throws Error{bad-file} for another one.
uint64_t read_pointer(ByteCursor& c, uint8_t encoding, LinkAddr place, const std::string& file) {
  uint64_t value = 0;
  switch (encoding & 0x0f) {
    case DW_EH_PE_absptr:
    case DW_EH_PE_udata8:
    case DW_EH_PE_sdata8:
      value = c.read<uint64_t>();
      break;
    case DW_EH_PE_udata4:
      value = c.read<uint32_t>();
      break;
    case DW_EH_PE_sdata4:
      value = static_cast<uint64_t>(int64_t{c.read<int32_t>()});
      break;
    default:
      throw bad_file(file, "a pointer of .eh_frame has an unknown encoding");
  }
  return (encoding & 0x70) == DW_EH_PE_pcrel ? value + place.value : value;
}

std::optional<EhFrame> find_eh_frame(const File& file, const DynamicTable& memory) {
  const Section* section = file.find_section(".eh_frame");
  if (section != nullptr && section->type != SectionType::NoBits) {
    return EhFrame{file.content(*section), section->address};
  }
  for (const Segment& s : file.segments()) {
    if (s.type == SegmentType::GnuEhFrame) {
      ByteCursor c(memory.at(s.address.value, std::nullopt, ".eh_frame_hdr"), file.name());
      c.read<uint8_t>();
      auto encoding = c.read<uint8_t>();
      c.read<uint16_t>();
      LinkAddr address(read_pointer(c, encoding, s.address + c.offset(), file.name()));
      return EhFrame{memory.at(address.value, std::nullopt, ".eh_frame"), address};
    }
  }
  return std::nullopt;
}

// The encoding of addresses in the records of a CIE; `c` is behind its id.
uint8_t read_encoding(ByteCursor& c, const std::string& file) {
  auto version = c.read<uint8_t>();
  std::string_view augmentation = c.read_cstring();
  c.read_uleb128();
  c.read_sleb128();
  if (version == 1) {
    c.read<uint8_t>();
  } else {
    c.read_uleb128();
  }
  if (!augmentation.starts_with('z')) {
    return DW_EH_PE_absptr;
  }
  c.read_uleb128();
  for (char letter : augmentation.substr(1)) {
    if (letter == 'R') {
      return c.read<uint8_t>();
    }
    if (letter == 'P') {
      auto encoding = c.read<uint8_t>();
      read_pointer(c, encoding, LinkAddr(0), file);
    } else if (letter == 'L') {
      c.read<uint8_t>();
    }
  }
  return DW_EH_PE_absptr;
}

void walk(const EhFrame& frame, const std::string& file, std::vector<LinkRange>& out) {
  std::map<uint64_t, uint8_t> encodings;
  ByteCursor c(frame.bytes, file);
  while (!c.done()) {
    uint64_t start = c.offset();
    auto length = c.read<uint32_t>();
    if (length == 0 || length == 0xffffffff) {
      return;
    }
    uint64_t id_at = c.offset();
    ByteCursor record(c.take(length), file);
    auto id = record.read<uint32_t>();
    if (id == 0) {
      encodings[start] = read_encoding(record, file);
      continue;
    }
    auto encoding = encodings.find(id_at - id);
    if (id > id_at || encoding == encodings.end()) {
      return;
    }
    LinkAddr place = frame.address + id_at + record.offset();
    LinkAddr begin(read_pointer(record, encoding->second, place, file));
    // The range has the format of the address without what it is relative to.
    uint64_t size = read_pointer(record, encoding->second & 0x0f, LinkAddr(0), file);
    if (begin.value + size >= begin.value) {
      out.push_back({begin, begin + size});
    }
  }
}

}  // namespace

std::vector<LinkRange> read_frame_ranges(const File& file) {
  std::vector<LinkRange> out;
  try {
    DynamicTable memory(file.bytes(), file.segments(), file.name());
    if (auto frame = find_eh_frame(file, memory)) {
      walk(*frame, file.name(), out);
    }
  } catch (const Error&) {
    // As promised: the list ends where it can't be read.
  }
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace qp::elf
