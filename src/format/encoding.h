// Private to format: the compact sections (.qpatch.atoms, .qpatch.bindings): LEB128 numbers and
// strings by number.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"

namespace qp::format {

class Encoder {
 public:
  void number(uint64_t v);
  void signed_number(int64_t v);
  void byte(uint8_t v) { append(body_, v); }
  void bytes(ByteView b);            // length first
  void text(std::string_view text);  // as a number in the pool of strings
  // Version byte, pool of strings, then everything in the order of the calls.
  Bytes finish() const;

 private:
  Bytes body_;
  std::vector<std::string> pool_;
  std::map<std::string, uint64_t, std::less<>> numbers_;
};

// Reads what Encoder wrote. Throws Error{bad-file} naming `section` of `file`.
class Decoder {
 public:
  // Borrows `bytes`.
  Decoder(ByteView bytes, const std::string& file, std::string_view section);
  Decoder(const Decoder&) = delete;  // the cursor refers to what_
  Decoder& operator=(const Decoder&) = delete;
  uint64_t number() { return cursor_.read_uleb128(); }
  int64_t signed_number() { return cursor_.read_sleb128(); }
  uint8_t byte() { return cursor_.read<uint8_t>(); }
  Bytes bytes() { return copy(cursor_.take(cursor_.read_uleb128())); }
  const std::string& text();
  // A count of things of which each takes at least one byte here.
  uint64_t count();
  uint64_t below(uint64_t limit, std::string_view what);
  bool flag();
  void finish() const;  // throws if something is left

 private:
  [[noreturn]] void fail(std::string_view what) const;
  std::string what_;
  ByteCursor cursor_;
  uint64_t text_left_;
  std::vector<std::string> pool_;
};

}  // namespace qp::format
