// Patches for several targets: what is written is read, and what does not fit together is not.

#include <gtest/gtest.h>

#include "base/error.h"
#include "elf/file.h"
#include "elf/object_writer.h"
#include "format/check.h"
#include "format/file.h"
#include "format/layout.h"
#include "sample.h"

namespace qp::format {
namespace {

PatchFile sample_file() {
  PatchFile file;
  file.parts = {sample_patch(), sample_patch()};
  file.parts[1].meta.target_name = "libserver.so";
  file.parts[1].meta.target_soname = "libserver.so.1";
  file.parts[1].meta.target_build_id = "fedcba98";
  return file;
}

std::string error_of(Bytes bytes) {
  try {
    read_patch_file(std::move(bytes), "hostile");
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), "bad-file");
    return e.what();
  }
  return "accepted";
}

// A file whose sections are these parts, whatever they are.
Bytes file_of(const std::vector<std::pair<std::string, Bytes>>& sections) {
  elf::OutFile out;
  for (const auto& [name, content] : sections) {
    elf::OutSection section;
    section.name = name;
    section.content = content;
    out.sections.push_back(std::move(section));
  }
  return elf::write_file(out);
}

// Claim: all parts come back, in their order, and are written as the same bytes.
TEST(Parts, RoundTrip) {
  const PatchFile file = sample_file();
  const Bytes bytes = write_patch_file(file);
  const PatchFile again = read_patch_file(bytes, "sample");
  ASSERT_EQ(again.parts.size(), 2U);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(again.parts[i].id(), file.parts[i].id());
    EXPECT_EQ(again.parts[i].fresh, file.parts[i].fresh);
  }
  EXPECT_EQ(write_patch_file(again), bytes);
  EXPECT_EQ(again.id(), file.id());
}

// Claim: a patch for one target holds no parts, and its id is that of its part.
TEST(Parts, OneIsNoContainer) {
  PatchFile file;
  file.parts = {sample_patch()};
  EXPECT_EQ(read_patch(write_patch_file(file), "one").id(), sample_patch().id());
  EXPECT_EQ(file.id(), sample_patch().id());
  EXPECT_EQ(read_patch_file(write_patch(sample_patch()), "one").parts.size(), 1U);
}

// Claim: each part is a section with the name of its target, which is a patch by itself.
TEST(Parts, SectionsAreWholePatches) {
  const elf::File file = elf::File::parse(write_patch_file(sample_file()), "sample");
  const elf::Section* section = file.find_section(".qpatch.part.libserver.so");
  ASSERT_NE(section, nullptr);
  EXPECT_EQ(read_patch(copy(file.content(*section)), "part").meta.target_build_id, "fedcba98");
}

// Claim: a reader of one-target files says that it does not know the format, and not that the file is
// damaged.
TEST(Parts, OldReaderNamesTheFormat) {
  try {
    read_patch(write_patch_file(sample_file()), "newer");
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("format 2, this qpatch reads format 1"), std::string::npos)
        << e.what();
  }
}

// Claim: two parts for one target, parts of different patches, and no parts are not written.
TEST(Parts, InconsistentIsNotWritten) {
  PatchFile same = sample_file(), other = sample_file(), superseding = sample_file();
  same.parts[1].meta.target_build_id = same.parts[0].meta.target_build_id;
  other.parts[1].meta.cves = {"CVE-2026-0002"};
  superseding.parts[1].meta.supersedes = {};
  EXPECT_THROW(write_patch_file(same), Bug);
  EXPECT_THROW(write_patch_file(other), Bug);
  EXPECT_THROW(write_patch_file(superseding), Bug);
  EXPECT_THROW(write_patch_file({}), Bug);
}

// Claim: nor are they read: two parts for one target, other parts than the metadata names, parts in
// parts.
TEST(Parts, InconsistentIsNotRead) {
  const Bytes one = write_patch(sample_patch());
  const std::string server = std::string(kPart) + "server";
  EXPECT_NE(
      error_of(
          file_of({{server, one}, {server, one}, {kMeta, write_parts_meta({"server", "server"})}}))
          .find("two parts for build-id"),
      std::string::npos);
  EXPECT_NE(error_of(file_of({{server, one}, {kMeta, write_parts_meta({"client"})}}))
                .find("not those that its metadata names"),
            std::string::npos);
  EXPECT_NE(error_of(file_of({{server, one}})).find("no section .qpatch.meta"), std::string::npos);
  EXPECT_NE(error_of(file_of({{server, write_patch_file(sample_file())},
                              {kMeta, write_parts_meta({"server"})}}))
                .find("format 2"),
            std::string::npos);
}

// Claim: parts that all hold the same bytes of the file can't multiply them in memory.
TEST(Parts, OverlappingSections) {
  std::vector<std::pair<std::string, Bytes>> sections;
  for (int i = 0; i < 8; ++i) {
    sections.emplace_back(std::string(kPart) + "server", Bytes(1));
  }
  Bytes bytes = file_of(sections);
  const auto table = load<uint64_t>(bytes, 40);
  for (uint64_t i = 1; i <= 8; ++i) {
    store(ByteSpan(bytes), table + i * 64 + 24, uint64_t{0});             // sh_offset
    store(ByteSpan(bytes), table + i * 64 + 32, uint64_t{bytes.size()});  // sh_size
  }
  EXPECT_NE(error_of(bytes).find("larger than the file"), std::string::npos);
}

// Claim: a file cut off anywhere, or with a byte changed, is an error or a consistent patch.
TEST(Parts, Damaged) {
  Bytes bytes = write_patch_file(sample_file());
  for (size_t length = 0; length < bytes.size(); length += 7) {
    EXPECT_NE(error_of(copy(ByteView(bytes).first(length))), "accepted") << length;
  }
  for (size_t at = 0; at < bytes.size(); at += 3) {
    Bytes damaged = bytes;
    damaged[at] ^= std::byte{0x81};
    try {
      check_parts(read_patch_file(std::move(damaged), "hostile"), "hostile");
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), "bad-file");
    }
  }
}

}  // namespace
}  // namespace qp::format
