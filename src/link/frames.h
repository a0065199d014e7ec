// Writes .eh_frame and .eh_frame_hdr of an image. Private to link.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/address.h"
#include "base/bytes.h"
#include "base/report.h"
#include "elf/atom.h"

namespace qp::link {

struct DescribedRange {
  const elf::FrameEntry* entry = nullptr;  // borrowed
  LinkAddr start;                          // where its range begins in the image
  std::string_view name;                   // of the function, for findings
};

// Where a personality routine or an LSDA is. `indirect`: at `to` is a word that holds the address.
struct FramePointer {
  LinkAddr to;
  bool indirect = false;
};
// `indirect`: the object's encoding already went through a word (DW_EH_PE_indirect).
using FramePointerOf =
    std::function<FramePointer(const elf::Ref& ref, bool indirect, std::string_view function)>;

struct FrameTables {
  Bytes eh_frame, eh_frame_hdr;  // both empty if there are no ranges
};

// The sizes depend on the entries alone, never on the addresses. Throws Error{bad-file} for
// entries that can't be read. Findings: reloc-range.
FrameTables write_frames(const std::vector<DescribedRange>& ranges, LinkAddr eh_frame,
                         LinkAddr eh_frame_hdr, const FramePointerOf& pointer_of, Report& report);

// What a CIE says before its entries do. Throws Error{bad-file}.
Bytes read_initial_instructions(ByteView cie);
void append_uleb128(Bytes& out, uint64_t value);

// Of code that is called, or jumped to from the end of a function, and does nothing with the stack: the
// CFA is rsp + 8 throughout.
elf::FrameEntry call_target_frame(uint64_t size);
// Of what is at the outermost end of a stack.
elf::FrameEntry outermost_frame(uint64_t size);

}  // namespace qp::link
