// The vocabulary of ELF that other modules use, so that <elf.h> stays inside `elf`.
// Numbers are those of the gABI and of the x86-64 psABI (version 1.0), and may be cast.
#pragma once

#include <cstdint>
#include <string_view>

namespace qp::elf {

enum class FileType : uint16_t { Relocatable = 1, Executable = 2, SharedObject = 3, Core = 4 };

enum class SectionType : uint32_t {
  Null = 0,
  ProgBits = 1,
  SymTab = 2,
  StrTab = 3,
  Rela = 4,
  Hash = 5,
  Dynamic = 6,
  Note = 7,
  NoBits = 8,
  Rel = 9,
  DynSym = 11,
  InitArray = 14,
  FiniArray = 15,
  PreinitArray = 16,
  Group = 17,
  SymTabShndx = 18,
  GnuHash = 0x6ffffff6,
  VerDef = 0x6ffffffd,
  VerNeed = 0x6ffffffe,
  VerSym = 0x6fffffff,
  X86Unwind = 0x70000001,
};

// sh_flags
inline constexpr uint64_t kWrite = 1, kAlloc = 2, kExec = 4, kMerge = 0x10, kStrings = 0x20,
                          kInfoLink = 0x40, kGroup = 0x200, kTls = 0x400, kCompressed = 0x800;
// p_flags
inline constexpr uint32_t kSegX = 1, kSegW = 2, kSegR = 4;

enum class SegmentType : uint32_t {
  Null = 0,
  Load = 1,
  Dynamic = 2,
  Interp = 3,
  Note = 4,
  Phdr = 6,
  Tls = 7,
  GnuEhFrame = 0x6474e550,
  GnuStack = 0x6474e551,
  GnuRelro = 0x6474e552,
  GnuProperty = 0x6474e553,
};

enum class SymbolType : uint8_t {
  NoType = 0,
  Object = 1,
  Func = 2,
  Section = 3,
  File = 4,
  Common = 5,
  Tls = 6,
  GnuIfunc = 10,
};
enum class SymbolBind : uint8_t { Local = 0, Global = 1, Weak = 2, GnuUnique = 10 };
enum class Visibility : uint8_t { Default = 0, Internal = 1, Hidden = 2, Protected = 3 };

// psABI table 4.10.
enum class RelocType : uint32_t {
  None = 0,
  R64 = 1,
  PC32 = 2,
  GOT32 = 3,
  PLT32 = 4,
  Copy = 5,
  GlobDat = 6,
  JumpSlot = 7,
  Relative = 8,
  GOTPCREL = 9,
  R32 = 10,
  R32S = 11,
  R16 = 12,
  PC16 = 13,
  R8 = 14,
  PC8 = 15,
  DTPMOD64 = 16,
  DTPOFF64 = 17,
  TPOFF64 = 18,
  TLSGD = 19,
  TLSLD = 20,
  DTPOFF32 = 21,
  GOTTPOFF = 22,
  TPOFF32 = 23,
  PC64 = 24,
  GOTOFF64 = 25,
  GOTPC32 = 26,
  GOT64 = 27,
  GOTPCREL64 = 28,
  GOTPC64 = 29,
  GOTPLT64 = 30,
  PLTOFF64 = 31,
  SIZE32 = 32,
  SIZE64 = 33,
  GOTPC32_TLSDESC = 34,
  TLSDESC_CALL = 35,
  TLSDESC = 36,
  IRelative = 37,
  Relative64 = 38,
  GOTPCRELX = 41,
  REX_GOTPCRELX = 42,
};

struct RelocTraits {
  std::string_view name;  // "R_X86_64_PC32"
  uint8_t width;          // bytes of the field: 0, 1, 2, 4, 8
  bool pc_relative;       // the place P is subtracted
  bool via_got;           // the field leads to a GOT slot that holds S (or its TLS offset)
  bool tls;
};
// nullptr for a type that the psABI does not have: an error, never a skip.
const RelocTraits* find_traits(RelocType type);

}  // namespace qp::elf
