// The relocation types of x86-64, as a table.
//
// Everything that computes, compares or checks a relocation asks this table for the width of the
// field and for what kind of value it holds, so that no two places can disagree. A type that is not
// in the table is an error wherever it turns up: a field that is not understood can neither be
// proven nor linked. The truth is table 4.10 of the x86-64 psABI (version 1.0); types 39 and 40 are
// reserved there (they were the BND variants of PC32 and PLT32, withdrawn with MPX). Types that
// only ld.so sees (COPY, GLOB_DAT, JUMP_SLOT, IRELATIVE …) are included, since the proof reads the
// dynamic relocations of targets.

#include "elf/types.h"

#include <array>

namespace qp::elf {
namespace {

constexpr size_t kCount = 43;

constexpr std::array<RelocTraits, kCount> kTraits = {{
    // name, width, pc_relative, via_got, tls
    {"R_X86_64_NONE", 0, false, false, false},          // 0
    {"R_X86_64_64", 8, false, false, false},            // 1
    {"R_X86_64_PC32", 4, true, false, false},           // 2
    {"R_X86_64_GOT32", 4, false, true, false},          // 3
    {"R_X86_64_PLT32", 4, true, false, false},          // 4
    {"R_X86_64_COPY", 0, false, false, false},          // 5
    {"R_X86_64_GLOB_DAT", 8, false, false, false},      // 6
    {"R_X86_64_JUMP_SLOT", 8, false, false, false},     // 7
    {"R_X86_64_RELATIVE", 8, false, false, false},      // 8
    {"R_X86_64_GOTPCREL", 4, true, true, false},        // 9
    {"R_X86_64_32", 4, false, false, false},            // 10
    {"R_X86_64_32S", 4, false, false, false},           // 11
    {"R_X86_64_16", 2, false, false, false},            // 12
    {"R_X86_64_PC16", 2, true, false, false},           // 13
    {"R_X86_64_8", 1, false, false, false},             // 14
    {"R_X86_64_PC8", 1, true, false, false},            // 15
    {"R_X86_64_DTPMOD64", 8, false, false, true},       // 16
    {"R_X86_64_DTPOFF64", 8, false, false, true},       // 17
    {"R_X86_64_TPOFF64", 8, false, false, true},        // 18
    {"R_X86_64_TLSGD", 4, true, true, true},            // 19
    {"R_X86_64_TLSLD", 4, true, true, true},            // 20
    {"R_X86_64_DTPOFF32", 4, false, false, true},       // 21
    {"R_X86_64_GOTTPOFF", 4, true, true, true},         // 22
    {"R_X86_64_TPOFF32", 4, false, false, true},        // 23
    {"R_X86_64_PC64", 8, true, false, false},           // 24
    {"R_X86_64_GOTOFF64", 8, false, false, false},      // 25
    {"R_X86_64_GOTPC32", 4, true, false, false},        // 26
    {"R_X86_64_GOT64", 8, false, true, false},          // 27
    {"R_X86_64_GOTPCREL64", 8, true, true, false},      // 28
    {"R_X86_64_GOTPC64", 8, true, false, false},        // 29
    {"R_X86_64_GOTPLT64", 8, false, true, false},       // 30
    {"R_X86_64_PLTOFF64", 8, false, false, false},      // 31
    {"R_X86_64_SIZE32", 4, false, false, false},        // 32
    {"R_X86_64_SIZE64", 8, false, false, false},        // 33
    {"R_X86_64_GOTPC32_TLSDESC", 4, true, true, true},  // 34
    {"R_X86_64_TLSDESC_CALL", 0, false, false, true},   // 35
    {"R_X86_64_TLSDESC", 8, false, false, true},        // 36: two words, the first is the place
    {"R_X86_64_IRELATIVE", 8, false, false, false},     // 37
    {"R_X86_64_RELATIVE64", 8, false, false, false},    // 38
    {},                                                 // 39: reserved
    {},                                                 // 40: reserved
    {"R_X86_64_GOTPCRELX", 4, true, true, false},       // 41
    {"R_X86_64_REX_GOTPCRELX", 4, true, true, false},   // 42
}};

}  // namespace

const RelocTraits* find_traits(RelocType type) {
  auto number = static_cast<size_t>(type);
  if (number >= kCount || kTraits[number].name.empty()) {
    return nullptr;
  }
  return &kTraits[number];
}

}  // namespace qp::elf
