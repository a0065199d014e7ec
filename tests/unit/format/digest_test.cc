// Damage to a patch file.

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/fd.h"
#include "elf/file.h"
#include "format/file.h"
#include "sample.h"

namespace qp::format {
namespace {

PatchFile file_with(size_t parts) {
  PatchFile file;
  for (size_t i = 0; i < parts; ++i) {
    file.parts.push_back(sample_patch());
    file.parts.back().meta.target_name += std::to_string(i);
    file.parts.back().meta.target_build_id = "0" + std::to_string(i);
  }
  return file;
}

// "": the file was opened.
std::string error_of(ByteView bytes) {
  const TempDir directory("qpatch-digest");
  write_file(directory.path() / "damaged.qp", bytes);
  try {
    open_patch(directory.path() / "damaged.qp");
  } catch (const Error& e) {
    return e.code() + ": " + e.what();
  }
  return "";
}

// Claim: a flipped bit in any section is an error, and so is one in the headers.
TEST(Digest, AFlipInEachSection) {
  for (const size_t parts : {1, 2}) {
    const Bytes bytes = write_patch_file(file_with(parts));
    ASSERT_EQ(error_of(bytes), "");
    std::vector<uint64_t> places = {4, 0x30, bytes.size() - 8};
    const elf::File file = elf::File::parse(copy(bytes), "sample");
    for (const elf::Section& section : file.sections()) {
      if (section.type != elf::SectionType::NoBits && section.size != 0) {
        places.push_back(section.offset.value);
        places.push_back(section.offset.value + section.size / 2);
        places.push_back(section.offset.value + section.size - 1);
      }
    }
    for (const uint64_t place : places) {
      for (const unsigned bit : {0U, 5U}) {
        Bytes damaged = copy(bytes);
        damaged[place] ^= std::byte(1U << bit);
        EXPECT_TRUE(error_of(damaged).starts_with("bad-file: ")) << parts << ", " << place;
      }
    }
  }
}

// Claim: what is wrong, with which file, and what to do, is said.
TEST(Digest, SaysWhatToDo) {
  Bytes bytes = write_patch_file(file_with(1));
  const elf::File file = elf::File::parse(copy(bytes), "sample");
  for (const elf::Section& section : file.sections()) {
    if (section.name.starts_with(".text")) {
      bytes[section.offset.value] ^= std::byte{1};
      break;
    }
  }
  const std::string error = error_of(bytes);
  EXPECT_NE(error.find("damaged.qp"), std::string::npos) << error;
  EXPECT_NE(error.find("get it anew"), std::string::npos) << error;
}

// Claim: a digest that would be behind the end of the file is an error like any other.
TEST(Digest, OutsideOfTheFile) {
  constexpr uint64_t kHeaders = 0x28, kHeader = 64,
                     kOffset = 0x18;  // e_shoff, Elf64_Shdr, sh_offset
  Bytes bytes = write_patch_file(file_with(1));
  const elf::File file = elf::File::parse(copy(bytes), "sample");
  const uint64_t offset = file.find_section(".qpatch.digest")->offset.value;
  bool found = false;
  for (uint64_t at = load<uint64_t>(bytes, kHeaders); at + kHeader <= bytes.size(); at += kHeader) {
    if (load<uint64_t>(bytes, at + kOffset) == offset) {
      store(bytes, at + kOffset, uint64_t{1} << 40);
      found = true;
    }
  }
  EXPECT_TRUE(found);
  EXPECT_TRUE(error_of(bytes).starts_with("bad-file: ")) << error_of(bytes);
}

// Claim: a file without a digest is no patch to apply.
TEST(Digest, IsDemanded) {
  EXPECT_TRUE(error_of(write_patch(sample_patch())).starts_with("bad-file: "));
}

}  // namespace
}  // namespace qp::format
