// A patch linked for one place relative to its target: a well-formed ELF file that processes map.
// Addresses in an image are LinkAddr of the *target*: the image is mapped with the target's load
// bias, so the distance to the target is fixed and its text is the same in every process.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/address.h"
#include "base/bytes.h"
#include "base/report.h"
#include "format/patch.h"

namespace qp::link {

// A value that differs per process, written into the image's writable pages when it is staged.
struct Fill {
  enum class Kind : uint8_t {
    Address,  // bias + address (of the target or of the image), 8 bytes
    Import,   // address of `import` in the process + addend, 8 bytes
    // Of the thread-local variable `import`, 8 bytes each: the number of its module, its place in the
    // module's block, its distance from the thread pointer.
    TlsModule,
    TlsOffset,
    TpOffset,
    OwnTlsModule,  // the number of the target
  } kind = Kind::Address;
  LinkAddr at;          // 8-byte field in a writable segment of the image
  LinkAddr address;     // Kind::Address, addend included
  uint32_t import = 0;  // symbol id in Patch::fresh
  int64_t addend = 0;
};

struct ImageSegment {
  LinkAddr address;          // page-aligned
  uint64_t memory_size = 0;  // page-aligned
  FileOffset offset;         // page-aligned
  uint64_t file_size = 0;    // memory_size, or 0: all of it are zeros that the file does not hold
  uint32_t flags = 0;        // final protection: elf::kSegR | kSegW | kSegX, never W and X
};

// Bytes to be written over the entry of a replaced function.
struct Detour {
  std::string function;
  LinkAddr at;     // after endbr64, if there is one
  LinkAddr to;     // new function in the image
  Bytes expected;  // the target's bytes that will be overwritten (from the file or live memory)
  Bytes jump;      // e9 rel32, or eb rel8 to the island
  // Of a function with room for two bytes only, or of a far image: where the long jump is, in padding
  // of the target.
  struct Island {
    LinkAddr at;
    Bytes expected, jump;
  };
  std::optional<Island> island;
};

struct Image {
  Bytes file;
  std::string build_id;  // content hash, also the file's name in the store
  LinkRange range;       // all segments
  std::vector<ImageSegment> segments;
  std::vector<Fill> fills;  // by `at`
  LinkRange registry;       // reserved room in a writable segment, zero in the file
  struct Function {
    std::string name;
    LinkRange range;
    uint32_t replaced;
  };
  std::vector<LinkAddr> atoms;  // per atom of Patch::fresh: where it is
  // Of an image with new thread-local variables: the description of their block (layout.h), and where
  // they are in it, per symbol of Patch::fresh.
  LinkAddr thread_locals;
  std::map<elf::AtomSymbolId, uint64_t> block_offsets;
  std::vector<Function> new_functions;  // per Patch::replaced, same order: where the new one is
  std::vector<LinkAddr> hooks;          // per Patch::hooks, same order
  // Of an image with hooks: what they return to (proc/function_call.h), and the place right behind
  // its system call.
  LinkAddr hook_return, hook_asked;
};

// What new code calls, instead of __tls_get_addr and of ld.so's descriptor functions, for variables
// that the patch adds: functions of the patch (src/build/runtime).
inline constexpr const char* kTlsGetAddr = "qpatch_tls_get_addr";
inline constexpr const char* kTlsDescriptor = "qpatch_tls_descriptor";
// The FILE scope of these functions, of what they call, and of those of hooks.h. No program has it.
inline constexpr const char* kRuntimeFile = "qpatch runtime";

// True if code or data of the patch holds 32-bit absolute addresses of things that the image itself
// contains: then the image must lie in the low 2 GiB (PlacementRequest::low_2g).
bool needs_low_2g(const format::Patch& patch);

// From the first to the last place of the target that the image refers to by a distance, or that a
// detour starts from: what it has to reach, at least.
LinkRange used_range(const format::Patch& patch);

// Bytes that the image will need in memory at most; for choosing a place.
uint64_t image_size(const format::Patch& patch, uint64_t registry_size);

// New thread-local variables of a patch that are in the block of another image; by symbol.
struct BlockPlace {
  LinkAddr description;
  uint64_t offset = 0;
};
using ThreadLocals = std::map<elf::AtomSymbolId, BlockPlace>;

// Links at `base` (page-aligned; of a PIE it may lie below address 0, that is, wrap). Findings:
// reloc-unsupported, reloc-unknown, reloc-range, symbol-unbound, tls-unsupported,
// object-unsupported. With findings in the report the image is not to be used. Throws
// Error{bad-file} for an inconsistent patch.
Image link_image(const format::Patch& patch, LinkAddr base, uint64_t registry_size, Report& report,
                 const ThreadLocals& elsewhere = {});

// `e9 rel32` at `at` to `to`; Bug if out of range.
Bytes encode_jump(LinkAddr at, LinkAddr to);

// Where the jump goes: skips endbr64 at the entry. Refuses ("function-short") if the 5 bytes would
// leave the function and run into something that is not padding. `code` are the target's bytes
// from `entry` on (at least 32 where mapped), `size` the function's size, `next` the next symbol.
std::optional<Detour> plan_detour(const std::string& function, LinkAddr entry, uint64_t size,
                                  ByteView code, LinkAddr to, std::optional<LinkAddr> next,
                                  Report& report);

// A place that may hold the long jump: bytes of the target that nothing executes.
struct Spare {
  LinkAddr at;
  Bytes bytes;
};
// The form of a detour with an island.
struct Leap {
  bool is_short = false;         // two bytes lead to the island, and not five
  std::optional<LoadBias> bias;  // the island goes to a live address, and not a distance
};
// For a function that plan_detour() refuses: a jump at its entry, and an island in one of `spares`, the
// nearest, that overlaps nothing of `taken`. Nullopt: there is none.
std::optional<Detour> plan_leap(const std::string& function, LinkAddr entry, uint64_t size,
                                ByteView code, LinkAddr to, std::optional<LinkAddr> next, Leap leap,
                                const std::vector<Spare>& spares,
                                const std::vector<LinkRange>& taken);
// What a detour has to know of the target.
struct TargetText {
  std::function<Bytes(LinkAddr at, size_t size)> code;  // less where it ends
  std::function<std::optional<LinkAddr>(LinkAddr at, uint64_t size)> next_start;
  // Padding of at least `size` bytes that lies wholly in the window.
  std::function<std::vector<Spare>(LinkRange window, uint64_t size)> spares;
  // The island to which the jump there leads already, although it counts as taken.
  std::function<std::optional<Spare>(LinkAddr jump)> own_island;
  LoadBias bias;  // for a far image
};
// One detour per replaced function, in their order. No two of them, nor `taken`, overlap. Findings:
// function-short, no-room; then some are missing.
std::vector<Detour> plan_detours(const format::Patch& patch, const Image& image,
                                 const TargetText& text, std::vector<LinkRange> taken,
                                 Report& report);
// What the jump and its island overwrite.
std::vector<LinkRange> overwritten_by(const Detour& detour);

}  // namespace qp::link
