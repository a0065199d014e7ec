// The one interface through which pure code sees memory: of a process, of a file, or of a test.
#pragma once

#include <optional>

#include "base/address.h"
#include "base/bytes.h"

namespace qp {

template <class A>
class BasicReader {
 public:
  virtual ~BasicReader() = default;
  // Copies as many bytes from `at` as are readable without a gap, at most out.size(); returns how
  // many. 0 if nothing is mapped there. Never throws for an unmapped address.
  virtual size_t read_some(A at, ByteSpan out) const = 0;

  // All or nothing.
  bool try_read(A at, ByteSpan out) const { return read_some(at, out) == out.size(); }
};

// The eight bytes at `at`; nullopt if they are not all readable.
template <class A>
std::optional<uint64_t> find_word(const BasicReader<A>& memory, A at) {
  Bytes word(sizeof(uint64_t));
  return memory.try_read(at, word) ? std::optional(load<uint64_t>(word)) : std::nullopt;
}

using MemoryReader = BasicReader<LiveAddr>;  // a process
using TargetReader = BasicReader<LinkAddr>;  // a target: its file, or one module of a process

// One module of a process seen as a target.
class ModuleReader final : public TargetReader {
 public:
  ModuleReader(const MemoryReader& memory, LoadBias bias) : memory_(memory), bias_(bias) {}
  size_t read_some(LinkAddr at, ByteSpan out) const override {
    return memory_.read_some(bias_(at), out);
  }

 private:
  const MemoryReader& memory_;
  LoadBias bias_;
};

}  // namespace qp
