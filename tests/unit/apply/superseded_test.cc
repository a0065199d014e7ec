// What one set of detours in the place of another one is, in bytes, images and code.

#include "apply/superseded.h"

#include <gtest/gtest.h>

namespace qp::apply {
namespace {

Bytes bytes(std::initializer_list<int> values) {
  Bytes out;
  for (const int value : values) {
    out.push_back(static_cast<std::byte>(value));
  }
  return out;
}

// Memory from 0 on, to which writes are made; each must find what it expects.
Bytes after(Bytes memory, const std::vector<CodeWrite>& writes) {
  for (const CodeWrite& write : writes) {
    const auto at = memory.begin() + static_cast<ptrdiff_t>(write.at.value);
    EXPECT_TRUE(std::equal(write.expected.begin(), write.expected.end(), at)) << write.function;
    std::copy(write.wanted.begin(), write.wanted.end(), at);
  }
  return memory;
}

const Bytes kCode = bytes({1, 2, 3, 4, 5, 6, 7, 8, 9, 10});

CodeWrite detour(const char* function, uint64_t at, const Bytes& wanted) {
  const auto from = kCode.begin() + static_cast<ptrdiff_t>(at);
  return {function, LiveAddr(at), Bytes(from, from + static_cast<ptrdiff_t>(wanted.size())),
          wanted};
}

// Claim: an exchange leads from the one state to the other, and backwards to the first.
TEST(Exchange, LeadsThereAndBack) {
  const std::vector<CodeWrite> first = {detour("f", 0, bytes({90, 91})),
                                        detour("g", 4, bytes({92, 93}))};
  const std::vector<CodeWrite> second = {detour("f", 0, bytes({94, 95, 96})),
                                         detour("h", 8, bytes({97}))};
  const Bytes with_first = after(kCode, first), with_second = after(kCode, second);
  const std::vector<CodeWrite> writes = exchange(first, second);
  EXPECT_EQ(writes.size(), 3U) << "f is changed in one write";
  EXPECT_EQ(after(with_first, writes), with_second);
  EXPECT_EQ(after(with_second, backwards(writes)), with_first);
}

// Claim: where a longer detour is followed by a shorter one, what is behind it is the program's again.
TEST(Exchange, RestoresWhatIsNotCoveredAnyMore) {
  const std::vector<CodeWrite> first = {detour("f", 2, bytes({90, 91, 92, 93, 94}))};
  const std::vector<CodeWrite> second = {detour("f", 2, bytes({95, 96}))};
  EXPECT_EQ(after(after(kCode, first), exchange(first, second)), after(kCode, second));
}

// Claim: without a predecessor the detours are written as they are.
TEST(Exchange, OfNothingIsThePatch) {
  const std::vector<CodeWrite> writes = exchange({}, {detour("f", 0, bytes({90}))});
  ASSERT_EQ(writes.size(), 1U);
  EXPECT_EQ(writes.front().wanted, bytes({90}));
}

Registry replacing(std::initializer_list<uint64_t> entries) {
  Registry out;
  for (const uint64_t entry : entries) {
    RegistryDetour d;
    d.function = "f" + std::to_string(entry);
    d.entry = LiveAddr(entry);
    d.old_code = {{d.entry, d.entry + 16}, {d.entry + 0x1000, d.entry + 0x1010}};
    out.detours.push_back(d);
  }
  return out;
}

// Claim: the functions of the old patch alone are bare under the new one, with all their parts.
TEST(CodeLaidBare, IsWhatOnlyTheOldPatchReplaces) {
  const Registry first = replacing({0x100, 0x200}), second = replacing({0x100, 0x300});
  const std::vector<NamedCode> bare = code_laid_bare({&first}, {&second});
  ASSERT_EQ(bare.size(), 2U);
  EXPECT_EQ(bare[0].function, "f512");
  EXPECT_EQ(bare[0].range.start, LiveAddr(0x200));
  EXPECT_EQ(bare[1].range.start, LiveAddr(0x1200));
  EXPECT_TRUE(code_laid_bare({&first}, {&first}).empty());
}

FoundRegistry image(uint64_t start, State state, std::initializer_list<uint64_t> variables) {
  FoundRegistry out;
  out.image = {LiveAddr(start), LiveAddr(start + 0x100)};
  out.at = out.image.start;
  out.registry = Registry{};
  out.registry->state = state;
  out.registry->image = out.image;
  for (const uint64_t at : variables) {
    out.registry->variables.push_back({"v", "", "t", LiveAddr(at), 4, std::nullopt});
  }
  return out;
}

std::vector<uint64_t> starts(const std::vector<FoundRegistry>& images) {
  std::vector<uint64_t> out;
  for (const FoundRegistry& found : images) {
    out.push_back(found.image.start.value);
  }
  return out;
}

// Claim: an image is in use by whoever has a variable in it, but for itself and those that go.
TEST(InUse, ByOthers) {
  const std::vector<FoundRegistry> all = {image(0x1000, State::Reverted, {0x1010}),
                                          image(0x2000, State::Reverted, {0x1010, 0x2010}),
                                          image(0x3000, State::Applied, {0x2010})};
  EXPECT_EQ(starts(in_use(all, Users::Applied)), std::vector<uint64_t>{0x2000});
  EXPECT_EQ(starts(in_use(all, Users::Mapped)), (std::vector<uint64_t>{0x1000, 0x2000}));
  EXPECT_EQ(starts(in_use(all, Users::Mapped, {all[2].image})), std::vector<uint64_t>{0x1000});
  EXPECT_TRUE(in_use(all, Users::Mapped, {all[1].image, all[2].image}).empty());
}

// Claim: so is one from whose function a patch that is applied leads on.
TEST(InUse, ByDetours) {
  std::vector<FoundRegistry> all = {image(0x1000, State::Reverted, {}),
                                    image(0x2000, State::Applied, {})};
  all[1].registry->detours.emplace_back();
  all[1].registry->detours.back().at = LiveAddr(0x1010);
  EXPECT_EQ(starts(in_use(all, Users::Applied)), std::vector<uint64_t>{0x1000});
  all[1].registry->state = State::Reverted;
  EXPECT_TRUE(in_use(all, Users::Mapped).empty());
}

// Claim: a record that can't be read may name any variable; one that was never written names none.
TEST(InUse, ByWhatCantBeRead) {
  std::vector<FoundRegistry> all = {image(0x1000, State::Reverted, {}),
                                    image(0x2000, State::Applied, {})};
  all[1].registry.reset();
  EXPECT_EQ(starts(in_use(all, Users::Mapped)), std::vector<uint64_t>{0x1000});
  EXPECT_TRUE(in_use(all, Users::Applied).empty());
  all[1].blank = true;
  EXPECT_TRUE(in_use(all, Users::Mapped).empty());
}

}  // namespace
}  // namespace qp::apply
