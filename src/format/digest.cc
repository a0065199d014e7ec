// A patch is read with much care, but code is code: a bit that flipped on a disk or in a transfer gives
// another instruction, and no check of structure sees that. So the file says what its bytes are: the
// hash of all of them (headers, tables and padding too), with the digest itself as zeros. That is
// against damage. Who wants to do harm can compute a digest, as he can write a patch; against that
// stands only where a patch comes from.
//
// The digest is text, so that `readelf -p .qpatch.digest` shows it.

#include "format/digest.h"

#include <algorithm>

#include "base/error.h"
#include "elf/file.h"
#include "format/layout.h"

namespace qp::format {
namespace {

constexpr size_t kDigestSize = 64;  // BLAKE2b-256 in hex

// Of a file whose digest is zeros: what it has to be.
std::string digest_of(Bytes bytes, FileOffset at) {
  std::fill_n(bytes.begin() + static_cast<std::ptrdiff_t>(at.value), kDigestSize, std::byte{0});
  return content_hash(bytes);
}

}  // namespace

Bytes write_sealed(elf::OutFile file) {
  elf::OutSection digest;
  digest.name = kDigest;
  digest.content = Bytes(kDigestSize);
  file.sections.push_back(std::move(digest));
  Bytes bytes = elf::write_file(file);
  const elf::File written = elf::File::parse(copy(bytes), "the patch");
  const FileOffset at = written.find_section(kDigest)->offset;
  const std::string text = digest_of(bytes, at);
  QP_ASSERT(text.size() == kDigestSize);
  std::copy_n(as_bytes(text).begin(), kDigestSize,
              bytes.begin() + static_cast<std::ptrdiff_t>(at.value));
  return bytes;
}

void check_digest(const elf::File& file) {
  const elf::Section* section = file.find_section(kDigest);
  if (section == nullptr || section->type != elf::SectionType::ProgBits ||
      section->size != kDigestSize) {
    throw bad_file(file.name(),
                   "it has no digest: it is damaged, no patch, or made by an older qpatch; get it "
                   "anew from where it was built, or build it anew");
  }
  const std::string_view told = as_text(file.content(*section));  // throws if it is not all there
  if (told != digest_of(copy(file.bytes()), section->offset)) {
    throw bad_file(file.name(),
                   "its content is not what its digest (.qpatch.digest) says: it was damaged after "
                   "it was built; get it anew from where it was built");
  }
}

}  // namespace qp::format
