// Addresses are types. A number that names a place in a file, in a section, in a program as it was
// linked, or in a running process is never the same number, and mixing them up is the classic bug
// of this trade. They convert only through a module (LoadBias) or through an ELF file.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>

namespace qp {

template <class Tag>
struct Address {
  uint64_t value = 0;

  constexpr Address() = default;
  constexpr explicit Address(uint64_t v) : value(v) {}

  constexpr auto operator<=>(const Address&) const = default;  // NOLINT(modernize-use-nullptr)
  constexpr Address operator+(uint64_t bytes) const { return Address(value + bytes); }
  constexpr Address operator-(uint64_t bytes) const { return Address(value - bytes); }
  // Distance in bytes; negative if *this lies below `other`. Wraps like the hardware does.
  constexpr int64_t operator-(Address other) const {
    return static_cast<int64_t>(value - other.value);
  }
  constexpr Address& operator+=(uint64_t bytes) {
    value += bytes;
    return *this;
  }
};

using SectionOffset = Address<struct SectionOffsetTag>;  // from the start of an ELF section
using FileOffset = Address<struct FileOffsetTag>;        // from the start of a file
using LinkAddr = Address<struct LinkAddrTag>;  // st_value / p_vaddr: as the linker placed it
using LiveAddr = Address<struct LiveAddrTag>;  // in the address space of a process

// What ld.so added to every address of a module (l_addr). 0 for a non-PIE executable.
struct LoadBias {
  uint64_t value = 0;
  constexpr LiveAddr operator()(LinkAddr a) const { return LiveAddr(a.value + value); }
  constexpr LinkAddr operator()(LiveAddr a) const { return LinkAddr(a.value - value); }
  constexpr auto operator<=>(const LoadBias&) const = default;
};

// Half-open [start, end).
template <class A>
struct Range {
  A start, end;
  constexpr bool contains(A a) const { return start <= a && a < end; }
  constexpr bool overlaps(Range o) const { return start < o.end && o.start < end; }
  constexpr uint64_t size() const { return end.value - start.value; }
  constexpr auto operator<=>(const Range&) const = default;  // NOLINT(modernize-use-nullptr)
};
using LinkRange = Range<LinkAddr>;
using LiveRange = Range<LiveAddr>;

constexpr uint64_t align_up(uint64_t v, uint64_t to) {
  return (v + to - 1) / to * to;
}
constexpr uint64_t align_down(uint64_t v, uint64_t to) {
  return v / to * to;
}
inline constexpr uint64_t kPageSize = 4096;  // x86-64 base page

}  // namespace qp

template <class Tag>
struct std::hash<qp::Address<Tag>> {
  size_t operator()(qp::Address<Tag> a) const { return std::hash<uint64_t>()(a.value); }
};
