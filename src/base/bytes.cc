// Bounds-checked access to bytes, and the content hash.

#include "base/bytes.h"

#include <algorithm>

#include <fmt/format.h>
#include <sodium.h>

#include "base/error.h"

namespace qp {

ByteView slice(ByteView b, uint64_t offset, uint64_t size) {
  if (offset > b.size() || size > b.size() - offset) {
    throw bad_file("data", fmt::format("{} bytes at offset {} are outside of its {} bytes", size,
                                       offset, b.size()));
  }
  return b.subspan(offset, size);
}

void store_bytes(ByteSpan into, uint64_t offset, ByteView what) {
  slice(into, offset, what.size());  // bounds
  std::copy(what.begin(), what.end(), into.begin() + static_cast<ptrdiff_t>(offset));
}

void append_bytes(Bytes& out, ByteView what) {
  out.insert(out.end(), what.begin(), what.end());
}
void append_text(Bytes& out, std::string_view text) {
  append_bytes(out, as_bytes(text));
}

ByteView ByteCursor::take(uint64_t size) {
  if (size > left()) {
    throw bad_file(what_, fmt::format("it ends at offset {}, {} bytes before the end of a field",
                                      bytes_.size(), size - left()));
  }
  ByteView out = bytes_.subspan(at_, size);
  at_ += size;
  return out;
}

std::string_view ByteCursor::read_cstring() {
  ByteView rest = bytes_.subspan(at_);
  auto nul = std::find(rest.begin(), rest.end(), std::byte{0});
  if (nul == rest.end()) {
    throw bad_file(what_, fmt::format("the string at offset {} has no end", at_));
  }
  auto length = static_cast<size_t>(nul - rest.begin());
  at_ += length + 1;
  return as_text(rest.first(length));
}

uint64_t ByteCursor::read_uleb128() {
  uint64_t value = 0;
  for (unsigned shift = 0;; shift += 7) {
    auto byte = read<uint8_t>();
    if (shift > 63 || (shift == 63 && (byte & 0x7e) != 0)) {
      throw bad_file(what_, fmt::format("the LEB128 number before offset {} is too large", at_));
    }
    value |= static_cast<uint64_t>(byte & 0x7f) << shift;
    if ((byte & 0x80) == 0) {
      return value;
    }
  }
}

int64_t ByteCursor::read_sleb128() {
  uint64_t value = 0;
  for (unsigned shift = 0;; shift += 7) {
    auto byte = read<uint8_t>();
    if (shift > 63) {
      throw bad_file(what_, fmt::format("the LEB128 number before offset {} is too large", at_));
    }
    value |= static_cast<uint64_t>(byte & 0x7f) << shift;
    if ((byte & 0x80) == 0) {
      if ((byte & 0x40) != 0 && shift + 7 < 64) {
        value |= ~uint64_t{0} << (shift + 7);
      }
      return static_cast<int64_t>(value);
    }
  }
}

void ByteCursor::seek(uint64_t offset) {
  if (offset > bytes_.size()) {
    throw bad_file(what_,
                   fmt::format("offset {} is outside of its {} bytes", offset, bytes_.size()));
  }
  at_ = offset;
}

std::string hex(ByteView b, size_t max) {
  std::string out;
  for (size_t i = 0; i < std::min(b.size(), max); ++i) {
    out += fmt::format("{}{:02x}", i == 0 ? "" : " ", static_cast<unsigned>(b[i]));
  }
  return b.size() > max ? out + " …" : out;
}

std::string content_hash(ByteView b) {
  unsigned char hash[crypto_generichash_BYTES];
  crypto_generichash(hash, sizeof hash, reinterpret_cast<const unsigned char*>(b.data()), b.size(),
                     nullptr, 0);
  std::string out;
  for (unsigned char c : hash) {
    out += fmt::format("{:02x}", c);
  }
  return out;
}

}  // namespace qp
