#include "insn/decoded.h"

#include "base/error.h"

namespace qp::insn {

bool decode_raw(ByteView code, uint64_t offset, Decoded& out) {
  static const ZydisDecoder decoder = [] {
    ZydisDecoder d;
    QP_ASSERT(ZYAN_SUCCESS(ZydisDecoderInit(&d, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64)));
    return d;
  }();
  if (offset >= code.size()) {
    return false;
  }
  const ByteView rest = code.subspan(offset);
  return ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, rest.data(), rest.size(), &out.instruction,
                                             out.operands.data()));
}

}  // namespace qp::insn
