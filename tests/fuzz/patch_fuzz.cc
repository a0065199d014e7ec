// Any bytes as a patch file: an Error, or a patch that can be written and read again (P8).
//
// The writer calls an inconsistent patch a bug, so a patch that the reader should not have let
// through shows up as a crash here.

#include <cstddef>
#include <cstdint>

#include "base/error.h"
#include "format/file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  qp::format::PatchFile patch;
  try {
    patch = qp::format::read_patch_file(qp::copy(std::as_bytes(std::span(data, size))), "fuzz");
  } catch (const qp::Error&) {
    return 0;
  }
  qp::Bytes bytes = qp::format::write_patch_file(patch);
  qp::format::PatchFile again = qp::format::read_patch_file(bytes, "fuzz, second time");
  QP_ASSERT(again.parts.size() == patch.parts.size());
  for (size_t i = 0; i < patch.parts.size(); ++i) {
    QP_ASSERT(again.parts[i].fresh == patch.parts[i].fresh &&
              again.parts[i].old == patch.parts[i].old);
  }
  QP_ASSERT(qp::format::write_patch_file(again) == bytes);
  return 0;
}
