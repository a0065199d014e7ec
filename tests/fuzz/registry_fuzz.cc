// Any bytes as a registry, which lies where a hostile process can write: a value or a reason (P8).
//
// The bytes are taken as they are, and as what a right header would be followed by, since no fuzzer
// guesses a checksum. What was read has to survive being written and read again.

#include <cstddef>
#include <cstdint>

#include "apply/registry.h"
#include "base/bytes.h"
#include "base/error.h"

namespace {

using namespace qp;

void read(ByteView bytes) {
  std::string why;
  const auto registry = apply::decode_registry(bytes, why);
  if (!registry) {
    QP_ASSERT(!why.empty());
    return;
  }
  const Bytes again = apply::encode_registry(*registry);
  const auto second = apply::decode_registry(again, why);
  QP_ASSERT(second && apply::encode_registry(*second) == again);
}

Bytes with_header(ByteView payload) {
  Bytes out = apply::encode_registry({});
  out.resize(apply::kRegistryHeader);
  store(out, 16, static_cast<uint64_t>(payload.size()));
  store(out, 24, std::stoull(content_hash(payload).substr(0, 16), nullptr, 16));
  append_bytes(out, payload);
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const ByteView bytes = std::as_bytes(std::span(data, size));
  read(bytes);
  read(with_header(bytes));
  return 0;
}
