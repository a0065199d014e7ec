// A patch that was written is the patch that is read.

#include <gtest/gtest.h>

#include "format/file.h"
#include "format/graph.h"
#include "sample.h"

namespace qp::format {
namespace {

void expect_equal(const Patch& a, const Patch& b) {
  EXPECT_EQ(a.fresh, b.fresh);
  EXPECT_EQ(a.fresh_bindings, b.fresh_bindings);
  EXPECT_EQ(a.old, b.old);
  EXPECT_EQ(a.old_bindings, b.old_bindings);
  EXPECT_EQ(a.meta.target_name, b.meta.target_name);
  EXPECT_EQ(a.meta.target_soname, b.meta.target_soname);
  EXPECT_EQ(a.meta.target_build_id, b.meta.target_build_id);
  EXPECT_EQ(a.meta.description, b.meta.description);
  EXPECT_EQ(a.meta.cves, b.meta.cves);
  EXPECT_EQ(a.meta.toolchain, b.meta.toolchain);
  EXPECT_EQ(a.meta.sources, b.meta.sources);
  EXPECT_EQ(a.meta.waivers, b.meta.waivers);
  EXPECT_EQ(a.meta.supersedes, b.meta.supersedes);
  ASSERT_EQ(a.replaced.size(), b.replaced.size());
  for (size_t i = 0; i < a.replaced.size(); ++i) {
    EXPECT_EQ(a.replaced[i].name, b.replaced[i].name);
    EXPECT_EQ(a.replaced[i].file, b.replaced[i].file);
    EXPECT_EQ(a.replaced[i].old_function, b.replaced[i].old_function);
    EXPECT_EQ(a.replaced[i].new_function, b.replaced[i].new_function);
    EXPECT_EQ(a.replaced[i].entry, b.replaced[i].entry);
    EXPECT_EQ(a.replaced[i].ranges, b.replaced[i].ranges);
    EXPECT_EQ(a.replaced[i].why, b.replaced[i].why);
  }
  EXPECT_EQ(a.hooks, b.hooks);
}

// Claim: nothing of a patch is lost in a file: atoms, symbols, unwind entries, bindings, metadata.
TEST(RoundTrip, Patch) {
  Patch patch = sample_patch();
  expect_equal(read_patch(write_patch(patch), "sample"), patch);
}

// Claim: a patch without hooks is of the format that programs which know none read; one with hooks is
// not.
TEST(RoundTrip, HooksAreOfAFormatOfTheirOwn) {
  Patch patch = sample_patch();
  const Bytes with = write_patch(patch);
  EXPECT_NE(as_text(with).find("\"format\": 3"), std::string_view::npos);
  patch.hooks.clear();
  const Bytes without = write_patch(patch);
  EXPECT_NE(as_text(without).find("\"format\": 1"), std::string_view::npos);
  EXPECT_EQ(as_text(without).find("\"hooks\""), std::string_view::npos);
  expect_equal(read_patch(without, "sample"), patch);
}

// Claim: what was read is written as the same bytes.
TEST(RoundTrip, Bytes) {
  Bytes bytes = write_patch(sample_patch());
  EXPECT_EQ(write_patch(read_patch(bytes, "sample")), bytes);
}

// Claim: the same patch gives the same bytes and id; another patch gives another id.
TEST(RoundTrip, DeterministicId) {
  EXPECT_EQ(write_patch(sample_patch()), write_patch(sample_patch()));
  Patch other = sample_patch();
  other.fresh.atoms[0].bytes[14] = std::byte{7};
  EXPECT_EQ(sample_patch().id(), sample_patch().id());
  EXPECT_EQ(sample_patch().id(), content_hash(write_patch(sample_patch())).substr(0, 8));
  EXPECT_NE(other.id(), sample_patch().id());
}

// Claim: a graph as a file of its own comes back, an empty one too.
TEST(RoundTrip, Graph) {
  EXPECT_EQ(read_graph(write_graph(sample_graph(1)), "graph"), sample_graph(1));
  EXPECT_EQ(read_graph(write_graph({}), "graph"), elf::AtomGraph{});
}

// Claim: a name with an '@' in it is not taken apart, whether it has a version or not.
TEST(RoundTrip, NamesWithAt) {
  Patch patch = sample_patch();
  patch.fresh.symbols[3].name = patch.old.symbols[3].name = "other@one";
  patch.fresh.symbols[5].name = patch.old.symbols[5].name = "mem@cpy";
  expect_equal(read_patch(write_patch(patch), "sample"), patch);
}

// Claim: two static variables of one name in two files keep their own bindings.
TEST(RoundTrip, SameNameTwice) {
  Patch patch = sample_patch();
  auto twin = patch.fresh.symbols[4];
  twin.file = "twin.c";
  patch.fresh.symbols.push_back(twin);
  patch.fresh_bindings.push_back(patch.fresh_bindings[4]);
  patch.fresh_bindings.back().address = LinkAddr(0x404020);
  expect_equal(read_patch(write_patch(patch), "sample"), patch);
}

}  // namespace
}  // namespace qp::format
