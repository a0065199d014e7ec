// Where everything of a patch goes in its image. Private to link.
#pragma once

#include <array>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "base/address.h"
#include "base/report.h"
#include "elf/atom.h"
#include "format/patch.h"
#include "link/frames.h"
#include "link/image.h"

namespace qp::link {

// The sections of an image in the order of their addresses.
enum Part : uint8_t {
  kNote,
  kEhFrameHdr,
  kEhFrame,
  kRodata,  // R--, behind the ELF header
  kText,    // R-X
  kZeros,   // RW-, not in the file
  kRegistry,
  kTlsData,  // the initial content of new thread-local variables
  kGot,
  kDataRelRo,
  kData,
  kBss,
  kParts  // RW-
};
constexpr bool is_writable(Part part) {
  return part >= kZeros;
}

struct Area {
  LinkAddr address;
  uint64_t size = 0, alignment = 1;
};

// GOT slots and veneers, numbered in the order in which the patch's references ask for them.
struct Slots {
  std::vector<elf::AtomSymbolId> words;  // hold the symbol's address
  std::vector<elf::AtomSymbolId> tls;    // hold the symbol's offset from the thread pointer
  // What __tls_get_addr is called with: {module, offset in the module's block}; of a new variable
  // {address of the block's description, offset in the block}. Of a reference to the block's start
  // the offset is 0.
  std::vector<std::pair<elf::AtomSymbolId, bool>> indexes;  // symbol, of the block's start
  std::vector<elf::AtomSymbolId> descriptors;               // {function, and the same two words}
  std::vector<elf::AtomSymbolId> veneers;
  std::map<elf::AtomSymbolId, size_t> word_of, tls_of, descriptor_of, veneer_of;
  std::map<std::pair<elf::AtomSymbolId, bool>, size_t> index_of;
};

inline constexpr uint64_t kVeneerSize = 8, kSlotSize = 8;
inline constexpr uint64_t kIndexSize = 2 * kSlotSize, kDescriptorSize = 3 * kSlotSize;

// The block that each thread has of the new thread-local variables. Its description in the image is
// four words (src/build/runtime/runtime.h, struct tls_block): address of kTlsData, the size of what
// is initialised, the size of all, and one for the functions that find the block.
struct TlsBlock {
  bool any = false;
  LinkAddr description;           // in kGot
  std::vector<uint64_t> offsets;  // per atom of the patch: in the block; 0 of others
  uint64_t initialised = 0, size = 0;
};
inline constexpr uint64_t kDescriptionSize = 4 * kSlotSize;

// What hooks return to. A nop comes first, since a return address is looked up by the byte before
// it. rt_sigreturn does not return; the jump is for a call that a tracer has made void.
inline constexpr std::array<uint8_t, 12> kHookReturn = {0x90,                 // nop
                                                        0x89, 0xc3,           // 1: mov %eax,%ebx
                                                        0xb8, 0x0f, 0, 0, 0,  // 2: mov $15,%eax
                                                        0x0f, 0x05,           // syscall
                                                        0xeb, 0xf7};          // jmp 2b
inline constexpr uint64_t kHookReturnEntry = 1, kHookReturnAsked = 10;

struct Layout {
  LinkAddr base;
  std::array<Area, kParts> parts;
  std::vector<LinkAddr> atoms;  // per atom of the patch
  std::vector<Part> part_of;    // per atom of the patch
  Slots slots;
  TlsBlock tls;
  LinkAddr indexes, descriptors;        // start of them, in kGot
  LinkAddr veneers;                     // start of them, in kText
  std::optional<LinkAddr> hook_return;  // of kHookReturn, in kText
  std::vector<ImageSegment> segments;   // those that are not empty
  LinkRange range;
  uint64_t zeros = 0;  // bytes of the segment that the file does not hold

  FileOffset offset_of(LinkAddr address) const {
    const bool behind = address >= parts[kRegistry].address;
    return FileOffset(address.value - base.value - (behind ? zeros : 0));
  }
  LinkAddr slot(elf::AtomSymbolId symbol) const {
    return parts[kGot].address + slots.word_of.at(symbol) * kSlotSize;
  }
  LinkAddr tls_slot(elf::AtomSymbolId symbol) const {
    return parts[kGot].address + (slots.words.size() + slots.tls_of.at(symbol)) * kSlotSize;
  }
  LinkAddr tls_index(elf::AtomSymbolId symbol, bool start) const {
    return indexes + slots.index_of.at({symbol, start}) * kIndexSize;
  }
  LinkAddr tls_descriptor(elf::AtomSymbolId symbol) const {
    return descriptors + slots.descriptor_of.at(symbol) * kDescriptorSize;
  }
  LinkAddr veneer(elf::AtomSymbolId symbol) const {
    return veneers + slots.veneer_of.at(symbol) * kVeneerSize;
  }
};

// Findings: object-unsupported, tls-unsupported. Throws Error{bad-file} if the patch is absurdly
// large. The size of the range does not depend on `base`.
Layout lay_out(const format::Patch& patch, LinkAddr base, uint64_t registry_size, Report& report);

// Room for the ELF header and the program headers at the start of the image.
inline constexpr uint64_t kHeaderRoom = 512;
// Of .note.gnu.build-id: 12 bytes header, "GNU\0", 20 bytes.
inline constexpr uint64_t kNoteSize = 36, kNoteBuildIdAt = 16, kBuildIdSize = 20;

// The unwind entries of the image: those of the patch's functions, then those of the veneers and of
// what hooks return to, which is an outermost frame.
// Valid as long as `patch` lives.
std::vector<DescribedRange> described_ranges(const format::Patch& patch, const Layout& layout);

// How a personality routine or LSDA is reached; `layout` supplies the addresses. Findings:
// reloc-unsupported, symbol-unbound.
FramePointer find_frame_pointer(const format::Patch& patch, const Layout& layout,
                                const elf::Ref& ref, bool indirect, std::string_view function,
                                Report& report);

}  // namespace qp::link
