// The one interface through which pure code sees memory: of a process, of a file, or of a test.
#pragma once

#include <optional>
#include <utility>
#include <vector>

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

// A process as it will be when some of its bytes are others.
class ChangedMemory final : public MemoryReader {
 public:
  struct Change {
    LiveAddr at;
    Bytes bytes;
  };
  // `memory` outlives it. Of changes that overlap the later one counts.
  ChangedMemory(const MemoryReader& memory, std::vector<Change> changes)
      : memory_(memory), changes_(std::move(changes)) {}
  size_t read_some(LiveAddr at, ByteSpan out) const override {
    const size_t size = memory_.read_some(at, out);
    for (const Change& change : changes_) {
      for (size_t i = 0; i < change.bytes.size(); ++i) {
        if (const auto where = static_cast<uint64_t>(change.at + i - at);
            at <= change.at + i && where < size) {
          out[where] = change.bytes[i];
        }
      }
    }
    return size;
  }

 private:
  const MemoryReader& memory_;
  std::vector<Change> changes_;
};

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
