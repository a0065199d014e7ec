// Bytes as values, and a cursor that can't leave them. Files and processes are untrusted (P8):
// every read of them goes through here or through a check that reads like it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace qp {

using Bytes = std::vector<std::byte>;
using ByteView = std::span<const std::byte>;
using ByteSpan = std::span<std::byte>;

inline ByteView as_bytes(std::string_view s) {
  return {reinterpret_cast<const std::byte*>(s.data()), s.size()};
}
inline std::string_view as_text(ByteView b) {
  return {reinterpret_cast<const char*>(b.data()), b.size()};
}
inline Bytes copy(ByteView b) {
  return {b.begin(), b.end()};
}

// Sub-range or Error{bad-file}; never reads outside.
ByteView slice(ByteView b, uint64_t offset, uint64_t size);

// Little-endian load/store of a trivially copyable T; throws Error if it does not fit.
template <class T>
T load(ByteView b, uint64_t offset = 0) {
  static_assert(std::is_trivially_copyable_v<T>);
  T out;
  std::memcpy(&out, slice(b, offset, sizeof(T)).data(), sizeof(T));
  return out;
}
void store_bytes(ByteSpan into, uint64_t offset, ByteView what);  // throws Error if it does not fit
template <class T>
void store(ByteSpan into, uint64_t offset, T value) {
  static_assert(std::is_trivially_copyable_v<T>);
  store_bytes(into, offset, std::as_bytes(std::span(&value, 1)));
}
template <class T>
void append(Bytes& out, const T& value) {
  static_assert(std::is_trivially_copyable_v<T>);
  auto b = std::as_bytes(std::span(&value, 1));
  out.insert(out.end(), b.begin(), b.end());
}
void append_bytes(Bytes& out, ByteView what);
void append_text(Bytes& out, std::string_view text);  // without NUL

// Reads front to back. Every read throws Error{bad-file} past the end, naming `what`.
class ByteCursor {
 public:
  ByteCursor(ByteView bytes, std::string_view what) : bytes_(bytes), what_(what) {}
  template <class T>
  T read() {
    static_assert(std::is_trivially_copyable_v<T>);
    T out;
    std::memcpy(&out, take(sizeof(T)).data(), sizeof(T));
    return out;
  }
  ByteView take(uint64_t size);
  std::string_view read_cstring();  // up to NUL, which is consumed
  uint64_t read_uleb128();
  int64_t read_sleb128();
  void seek(uint64_t offset);
  uint64_t offset() const { return at_; }
  uint64_t left() const { return bytes_.size() - at_; }
  bool done() const { return at_ == bytes_.size(); }

 private:
  ByteView bytes_;
  std::string_view what_;
  uint64_t at_ = 0;
};

std::string hex(ByteView b, size_t max = 64);  // "48 8b 05 …"

// Content hash: BLAKE2b-256 (libsodium crypto_generichash), lower-case hex.
std::string content_hash(ByteView b);

}  // namespace qp
