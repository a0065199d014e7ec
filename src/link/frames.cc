// Unwind tables of an image.
//
// A patched function that can't be unwound breaks four things at once: exceptions, debuggers,
// profilers and our own stack check, which must call every thread below it busy. So each function
// brings its entries along, and here they become an .eh_frame section with a sorted .eh_frame_hdr.
//
// An entry arrives as the object had it, but without places: the pointers in it were relocated.
// They are written anew, all with the one encoding that needs no relocation in an image, pcrel |
// sdata4 (0x1b): the described range, the LSDA and the personality routine. A personality routine
// of another module is reached through a GOT slot of the image, with the indirect encoding (0x9b).
// CIEs are shared by entries that say the same.
//
// The CFA instructions themselves are copied: they count from the function's start and hold no
// address (elf refuses DW_CFA_set_loc when it reads the object).
//
// The format: LSB Core 5.0, section 10.6 (.eh_frame, .eh_frame_hdr); DWARF 5, section 6.4.

#include "link/frames.h"

#include <algorithm>
#include <limits>
#include <map>
#include <tuple>

#include <fmt/format.h>

#include "base/error.h"

namespace qp::link {
namespace {

constexpr uint8_t kPcRelSData4 = 0x1b, kIndirect = 0x80, kUData4 = 0x03, kDataRelSData4 = 0x3b;
constexpr uint64_t kReturnColumn = 16;  // psABI figure 3.36

// What a CIE says, without its pointers.
struct Cie {
  uint8_t version = 1;
  uint64_t code_factor = 1;
  int64_t data_factor = -8;
  bool has_lsda = false, has_personality = false, personality_indirect = false;
  bool signal_frame = false;
  Bytes initial;
};

uint64_t pointer_size(uint8_t encoding) {
  switch (encoding & 0x0f) {
    case 0x00:
    case 0x04:
    case 0x0c:
      return 8;
    case 0x03:
    case 0x0b:
      return 4;
    case 0x02:
    case 0x0a:
      return 2;
    default:
      throw bad_file("unwind entry", fmt::format("pointer encoding {:#x} is unknown", encoding));
  }
}

Cie read_cie(ByteView body) {
  ByteCursor in(body, "CIE");
  Cie cie;
  cie.version = in.read<uint8_t>();
  if (cie.version != 1 && cie.version != 3) {
    throw bad_file("CIE", fmt::format("version {} is unknown", cie.version));
  }
  std::string_view augmentation = in.read_cstring();
  cie.code_factor = in.read_uleb128();
  cie.data_factor = in.read_sleb128();
  uint64_t column = cie.version == 1 ? in.read<uint8_t>() : in.read_uleb128();
  if (column != kReturnColumn) {
    throw bad_file("CIE", fmt::format("the return address is in column {}", column));
  }
  if (!augmentation.empty()) {
    if (augmentation.front() != 'z') {
      throw bad_file("CIE", fmt::format("augmentation '{}' is unknown", augmentation));
    }
    ByteCursor data(in.take(in.read_uleb128()), "CIE augmentation");
    for (char letter : augmentation.substr(1)) {
      if (letter == 'P') {
        auto encoding = data.read<uint8_t>();
        data.take(pointer_size(encoding));
        cie.has_personality = true;
        cie.personality_indirect = (encoding & kIndirect) != 0;
      } else if (letter == 'L') {
        cie.has_lsda = data.read<uint8_t>() != 0xff;  // DW_EH_PE_omit
      } else if (letter == 'R') {
        data.read<uint8_t>();
      } else if (letter == 'S') {
        cie.signal_frame = true;
      } else {
        throw bad_file("CIE", fmt::format("augmentation '{}' is unknown", augmentation));
      }
    }
  }
  cie.initial = copy(in.take(in.left()));
  return cie;
}

elf::FrameEntry simple_frame(uint64_t size, std::initializer_list<unsigned> return_address) {
  elf::FrameEntry e;
  e.size = size;
  for (unsigned byte : {
           0x01,              // version
           0x00,              // no augmentation
           0x01, 0x78,        // code factor 1, data factor -8
           0x10,              // return address column
           0x0c, 0x07, 0x08,  // DW_CFA_def_cfa rsp, 8
       }) {
    e.cie.push_back(static_cast<std::byte>(byte));
  }
  for (unsigned byte : return_address) {
    e.cie.push_back(static_cast<std::byte>(byte));
  }
  return e;
}

void append_sleb128(Bytes& out, int64_t value) {
  for (bool more = true; more;) {
    auto low = static_cast<uint8_t>(value & 0x7f);
    value >>= 7;
    more = !((value == 0 && (low & 0x40) == 0) || (value == -1 && (low & 0x40) != 0));
    append(out, static_cast<uint8_t>(low | (more ? 0x80 : 0)));
  }
}

class Writer {
 public:
  Writer(LinkAddr eh_frame, LinkAddr hdr, const FramePointerOf& pointer_of, Report& report)
      : base_(eh_frame), hdr_(hdr), pointer_of_(pointer_of), report_(report) {}

  void add(const DescribedRange& range) {
    name_ = range.name;
    const elf::FrameEntry& entry = *range.entry;
    Cie cie = read_cie(entry.cie);
    if (cie.has_personality != entry.personality.has_value() || (entry.lsda && !cie.has_lsda)) {
      throw bad_file("unwind entry", fmt::format("of {}: it contradicts its CIE", name_));
    }
    size_t cie_at = cie_of(cie, entry);
    size_t at = begin_record();
    append(out_, static_cast<uint32_t>(out_.size() - cie_at));
    append_pointer(range.start);
    if (entry.size > std::numeric_limits<int32_t>::max()) {
      throw bad_file("unwind entry",
                     fmt::format("of {}: it describes {} bytes", name_, entry.size));
    }
    append(out_, static_cast<uint32_t>(entry.size));
    append_uleb128(out_, cie.has_lsda ? 4 : 0);
    if (cie.has_lsda) {
      if (entry.lsda) {
        append_pointer(pointer_of_(*entry.lsda, false, name_).to);
      } else {
        append(out_, uint32_t{0});  // none, for every encoding (LSB 10.6.1)
      }
    }
    append_bytes(out_, entry.instructions);
    end_record(at);
    table_.push_back({range.start, base_ + at});
  }

  FrameTables finish() {
    append(out_, uint32_t{0});
    std::sort(table_.begin(), table_.end());
    Bytes hdr;
    append(hdr, uint8_t{1});
    append(hdr, kPcRelSData4);    // eh_frame_ptr
    append(hdr, kUData4);         // fde_count
    append(hdr, kDataRelSData4);  // table
    append(hdr, distance(base_, hdr_ + hdr.size()));
    append(hdr, static_cast<uint32_t>(table_.size()));
    for (const auto& [start, record] : table_) {
      append(hdr, distance(start, hdr_));
      append(hdr, distance(record, hdr_));
    }
    return {std::move(out_), std::move(hdr)};
  }

 private:
  int32_t distance(LinkAddr to, LinkAddr from) {
    int64_t d = to - from;
    if (d != static_cast<int32_t>(d)) {
      report_.refuse("reloc-range", std::string(name_),
                     fmt::format("an unwind entry would have to reach over {:#x} bytes", d));
    }
    return static_cast<int32_t>(d);
  }
  void append_pointer(LinkAddr to) { append(out_, distance(to, base_ + out_.size())); }

  size_t begin_record() {
    size_t at = out_.size();
    append(out_, uint32_t{0});  // length, see end_record
    return at;
  }
  void end_record(size_t at) {
    out_.resize(at + align_up(out_.size() - at, 8));  // DW_CFA_nop
    store(ByteSpan(out_), at, static_cast<uint32_t>(out_.size() - at - 4));
  }

  size_t cie_of(const Cie& cie, const elf::FrameEntry& entry) {
    auto personality = entry.personality.value_or(elf::Ref{});
    Key key{entry.cie, entry.personality.has_value(), personality.symbol, personality.addend};
    auto [it, fresh] = cies_.try_emplace(std::move(key), out_.size());
    if (!fresh) {
      return it->second;
    }
    size_t at = begin_record();
    append(out_, uint32_t{0});  // this is a CIE
    append(out_, cie.version);
    std::string augmentation = "z";
    Bytes head;
    append_uleb128(head, cie.code_factor);
    append_sleb128(head, cie.data_factor);
    append_uleb128(head, kReturnColumn);  // one byte, as version 1 wants it
    uint64_t length = 1;
    if (cie.has_personality) {
      augmentation += 'P';
      length += 5;
    }
    if (cie.has_lsda) {
      augmentation += 'L';
      length += 1;
    }
    augmentation += 'R';
    if (cie.signal_frame) {
      augmentation += 'S';
    }
    append_text(out_, augmentation);
    out_.push_back(std::byte{0});
    append_bytes(out_, head);
    append_uleb128(out_, length);
    if (cie.has_personality) {
      FramePointer p = pointer_of_(*entry.personality, cie.personality_indirect, name_);
      append(out_, static_cast<uint8_t>(kPcRelSData4 | (p.indirect ? kIndirect : 0)));
      append_pointer(p.to);
    }
    if (cie.has_lsda) {
      append(out_, kPcRelSData4);
    }
    append(out_, kPcRelSData4);
    append_bytes(out_, cie.initial);
    end_record(at);
    return at;
  }

  using Key = std::tuple<Bytes, bool, elf::AtomSymbolId, int64_t>;

  LinkAddr base_, hdr_;
  const FramePointerOf& pointer_of_;
  Report& report_;
  std::string_view name_;
  Bytes out_;
  std::map<Key, size_t> cies_;
  std::vector<std::pair<LinkAddr, LinkAddr>> table_;
};

}  // namespace

FrameTables write_frames(const std::vector<DescribedRange>& ranges, LinkAddr eh_frame,
                         LinkAddr eh_frame_hdr, const FramePointerOf& pointer_of, Report& report) {
  if (ranges.empty()) {
    return {};
  }
  Writer writer(eh_frame, eh_frame_hdr, pointer_of, report);
  for (const DescribedRange& range : ranges) {
    writer.add(range);
  }
  return writer.finish();
}

Bytes read_initial_instructions(ByteView cie) {
  return read_cie(cie).initial;
}

void append_uleb128(Bytes& out, uint64_t value) {
  do {
    auto low = static_cast<uint8_t>(value & 0x7f);
    value >>= 7;
    append(out, static_cast<uint8_t>(low | (value != 0 ? 0x80 : 0)));
  } while (value != 0);
}

elf::FrameEntry call_target_frame(uint64_t size) {
  return simple_frame(size, {0x90, 0x01});  // DW_CFA_offset 16, 1
}

elf::FrameEntry outermost_frame(uint64_t size) {
  return simple_frame(size, {0x07, 0x10});  // DW_CFA_undefined 16
}

}  // namespace qp::link
