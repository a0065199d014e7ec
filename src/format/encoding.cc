// The encoding of the compact sections.
//
// What ELF can't say about an atom (its kind, its unwind entries, whose piece it is) and about a
// binding (its evidence, the stub and the slot) goes into sections of our own. They are small and
// many: a patch has an old graph with hundreds of symbols of which most share a file name. So
// numbers are LEB128, and strings are kept once, in a pool at the start, in order of first use.
//
// Promised: one input has one encoding; a reader never allocates more than the bytes that it was
// given can account for (a count of n things needs n bytes to follow; a long string can be named
// many times, so what is handed out altogether is limited).

#include "format/encoding.h"

#include <fmt/format.h>

#include "base/error.h"

namespace qp::format {
namespace {

constexpr uint8_t kEncodingVersion = 1;
constexpr uint64_t kTextAllowance = 16 << 20;

void append_uleb128(Bytes& out, uint64_t v) {
  do {
    auto low = static_cast<uint8_t>(v & 0x7f);
    v >>= 7;
    append(out, static_cast<uint8_t>(v != 0 ? low | 0x80 : low));
  } while (v != 0);
}

}  // namespace

void Encoder::number(uint64_t v) {
  append_uleb128(body_, v);
}

void Encoder::signed_number(int64_t v) {
  for (;;) {
    auto low = static_cast<uint8_t>(v & 0x7f);
    v >>= 7;
    bool last = (v == 0 && (low & 0x40) == 0) || (v == -1 && (low & 0x40) != 0);
    append(body_, static_cast<uint8_t>(last ? low : low | 0x80));
    if (last) {
      return;
    }
  }
}

void Encoder::bytes(ByteView b) {
  number(b.size());
  append_bytes(body_, b);
}

void Encoder::text(std::string_view text) {
  auto it = numbers_.find(text);
  if (it == numbers_.end()) {
    it = numbers_.emplace(text, pool_.size()).first;
    pool_.emplace_back(text);
  }
  number(it->second);
}

Bytes Encoder::finish() const {
  Bytes out;
  append(out, kEncodingVersion);
  append_uleb128(out, pool_.size());
  for (const std::string& s : pool_) {
    append_uleb128(out, s.size());
    append_text(out, s);
  }
  append_bytes(out, body_);
  return out;
}

Decoder::Decoder(ByteView bytes, const std::string& file, std::string_view section)
    : what_(fmt::format("{}, section {}", file, section)),
      cursor_(bytes, what_),
      text_left_(kTextAllowance + 8 * bytes.size()) {
  if (byte() != kEncodingVersion) {
    fail("its encoding is of another version of qpatch");
  }
  uint64_t strings = count();
  for (uint64_t i = 0; i < strings; ++i) {
    pool_.emplace_back(as_text(cursor_.take(cursor_.read_uleb128())));
  }
}

const std::string& Decoder::text() {
  const std::string& text = pool_[below(pool_.size(), "a string")];
  if (text.size() > text_left_) {
    fail("its strings are implausibly long");
  }
  text_left_ -= text.size();
  return text;
}

uint64_t Decoder::count() {
  return below(cursor_.left() + 1, "a count");
}

uint64_t Decoder::below(uint64_t limit, std::string_view what) {
  uint64_t v = number();
  if (v >= limit) {
    fail(fmt::format("{} has the number {}, and the limit is {}", what, v, limit));
  }
  return v;
}

bool Decoder::flag() {
  return below(2, "a flag") != 0;
}

void Decoder::finish() const {
  if (!cursor_.done()) {
    fail(fmt::format("{} bytes are left over", cursor_.left()));
  }
}

void Decoder::fail(std::string_view what) const {
  throw bad_file(what_, what);
}

}  // namespace qp::format
