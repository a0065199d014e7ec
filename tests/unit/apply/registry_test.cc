// The registry is read from memory that the process can write.

#include "apply/registry.h"

#include <gtest/gtest.h>

#include "apply/undo.h"

namespace qp::apply {
namespace {

Registry sample() {
  Registry r;
  r.state = State::Applied;
  r.patch_id = "a7k2b3c4";
  r.cves = {"CVE-2026-1234"};
  r.description = "a fix";
  r.target_name = "switchd";
  r.target_build_id = "00ff";
  r.staged_at = 1000;
  r.applied_at = 1001;
  r.image = {LiveAddr(0x10000), LiveAddr(0x14000)};
  r.bias = LoadBias{0x5000};
  r.may_escape = false;
  r.transaction = 0x123456789abcdef;
  RegistryDetour d;
  d.function = "f";
  d.file = "f.c";
  d.at = LiveAddr(0x6000);
  d.saved = Bytes(5, std::byte{0x90});
  d.jump = Bytes(5, std::byte{0xe9});
  d.entry = LiveAddr(0x6000);
  d.new_code = {LiveAddr(0x10000), LiveAddr(0x10020)};
  d.old_code = {{LiveAddr(0x6000), LiveAddr(0x6040)}};
  r.detours.push_back(d);
  d.function = "short";
  d.at = d.entry = LiveAddr(0x7000);
  d.saved = d.jump = Bytes(2, std::byte{0xeb});
  d.island = RegistryDetour::Island{LiveAddr(0x7040), Bytes(5, std::byte{0x90}),
                                    Bytes(5, std::byte{0xe9})};
  d.of_patch = true;
  r.detours.push_back(d);
  r.functions = {{"on_event", "f.c", {LiveAddr(0x10020), LiveAddr(0x10040)}}};
  return r;
}

// Claim: what is encoded is decoded.
TEST(Registry, RoundTrip) {
  Registry r = sample();
  std::string why;
  auto decoded = decode_registry(encode_registry(r), why);
  ASSERT_TRUE(decoded) << why;
  EXPECT_EQ(encode_registry(*decoded), encode_registry(r));
  EXPECT_EQ(decoded->detours.front().new_code, r.detours.front().new_code);
  EXPECT_EQ(decoded->applied_at, 1001);
  EXPECT_EQ(decoded->transaction, r.transaction);
  EXPECT_EQ(decoded->functions, r.functions);
  EXPECT_FALSE(decoded->detours.front().of_patch);
  EXPECT_TRUE(decoded->detours.back().of_patch);
  ASSERT_TRUE(decoded->detours.back().island);
  EXPECT_EQ(decoded->detours.back().island->at, LiveAddr(0x7040));
  EXPECT_EQ(decoded->detours.back().island->jump, r.detours.back().island->jump);
}

// Claim: an island is changed before the jump to it.
TEST(Registry, IslandsComeFirst) {
  const auto written = sample().detours.back().written();
  ASSERT_EQ(written.size(), 2U);
  EXPECT_EQ(written.front().at, LiveAddr(0x7040));
  EXPECT_EQ(written.back().at, LiveAddr(0x7000));
}

// Claim: whoever stands on an island stands in the way of a revert, as in the image.
TEST(Registry, IslandsAreClosedWithTheImage) {
  std::vector<LiveRange> closed;
  add_new_code_ranges(sample(), closed);
  ASSERT_EQ(closed.size(), 2U);
  EXPECT_EQ(closed[0], sample().image);
  EXPECT_EQ(closed[1], (LiveRange{LiveAddr(0x7040), LiveAddr(0x7045)}));
}

Registry with_hooks() {
  Registry r = sample();
  r.hooks = {
      {"raise_limit", format::Hook::When::PreApply, format::Hook::Others::Stopped,
       LiveAddr(0x10040)},
      {"lower", format::Hook::When::PostRevert, format::Hook::Others::Running, LiveAddr(0x10080)}};
  r.hook_return = LiveAddr(0x10101);
  r.hook_asked = LiveAddr(0x1010a);
  return r;
}

// Claim: hooks are decoded as they were encoded; a registry with hooks is not one for programs that
// know of none, and one without is.
TEST(Registry, Hooks) {
  const Registry r = with_hooks();
  std::string why;
  auto decoded = decode_registry(encode_registry(r), why);
  ASSERT_TRUE(decoded) << why;
  ASSERT_EQ(decoded->hooks.size(), 2u);
  EXPECT_EQ(decoded->hooks[1].name, "lower");
  EXPECT_EQ(decoded->hooks[1].when, format::Hook::When::PostRevert);
  EXPECT_EQ(decoded->hooks[1].others, format::Hook::Others::Running);
  EXPECT_EQ(decoded->hooks[1].function, LiveAddr(0x10080));
  EXPECT_EQ(decoded->hook_return, r.hook_return);
  EXPECT_EQ(decoded->hook_asked, r.hook_asked);
}

// Claim: what a patch supersedes, and its variables, come back as they were written.
TEST(Registry, Variables) {
  Registry r = sample();
  r.supersedes = {"aaaaaaaa", "bbbbbbbb"};
  r.variables = {{"calls", "a.c", "0123", LiveAddr(0x10100), 4, std::nullopt},
                 {"f::local", "", "", LiveAddr(0x10200), 8, 24}};
  r.state = State::Yielding;
  std::string why;
  const auto decoded = decode_registry(encode_registry(r), why);
  ASSERT_TRUE(decoded) << why;
  EXPECT_EQ(decoded->supersedes, r.supersedes);
  EXPECT_EQ(decoded->variables, r.variables);
  EXPECT_EQ(decoded->state, State::Yielding);
}

// Claim: a hook outside of the image, or of no known kind, is none.
TEST(Registry, HooksAreOfTheImage) {
  for (const auto& change : std::vector<void (*)(Registry&)>{
           [](Registry& r) { r.hooks[0].function = LiveAddr(0x14000); },
           [](Registry& r) { r.hook_return = LiveAddr(0x6000); },
           [](Registry& r) { r.hook_asked = LiveAddr(0x6000); },
           [](Registry& r) { r.hooks[0].when = static_cast<format::Hook::When>(5); },
           [](Registry& r) { r.hooks[0].others = static_cast<format::Hook::Others>(0); }}) {
    Registry r = with_hooks();
    change(r);
    std::string why;
    EXPECT_FALSE(decode_registry(encode_registry(r), why));
    EXPECT_FALSE(why.empty());
  }
}

// Claim: so are functions.
TEST(Registry, FunctionsAreOfTheImage) {
  Registry r = sample();
  r.functions.front().code.end = LiveAddr(0x14001);
  std::string why;
  EXPECT_FALSE(decode_registry(encode_registry(r), why));
  EXPECT_NE(why.find("on_event"), std::string::npos) << why;
}

// Claim: state and time of commit can be changed in place without breaking the checksum.
TEST(Registry, StateChangesInPlace) {
  Bytes bytes = encode_registry(sample());
  store(bytes, kStateOffset, static_cast<uint32_t>(State::Reverted));
  store(bytes, kAppliedAtOffset, int64_t{77});
  std::string why;
  auto decoded = decode_registry(bytes, why);
  ASSERT_TRUE(decoded) << why;
  EXPECT_EQ(decoded->state, State::Reverted);
  EXPECT_EQ(decoded->applied_at, 77);
}

// Claim: a registry cut off at any length is not one, and says why.
TEST(Registry, TruncationIsNoticed) {
  Bytes bytes = encode_registry(sample());
  for (size_t n = 0; n < bytes.size(); ++n) {
    std::string why;
    EXPECT_FALSE(decode_registry(ByteView(bytes).first(n), why)) << n;
    EXPECT_FALSE(why.empty()) << n;
  }
}

// Claim: a changed byte anywhere but in state and time is noticed.
TEST(Registry, DamageIsNoticed) {
  Bytes good = encode_registry(sample());
  for (size_t i = 0; i < good.size(); ++i) {
    bool free = (i >= kStateOffset && i < kStateOffset + 4) ||
                (i >= kAppliedAtOffset && i < kAppliedAtOffset + 8);
    if (free) {
      continue;
    }
    Bytes bad = good;
    bad[i] ^= std::byte{0x41};
    std::string why;
    EXPECT_FALSE(decode_registry(bad, why)) << "byte " << i;
  }
}

// Claim: a forged record with a right checksum and absurd counts is refused, not allocated for.
TEST(Registry, AbsurdCountIsRefused) {
  Bytes payload;
  append(payload, uint32_t{1});
  append_text(payload, "x");
  append(payload, uint32_t{0xffffffff});  // number of CVE ids
  Bytes bytes;
  append_text(bytes, "QPATCHRG");
  append(bytes, load<uint32_t>(encode_registry(sample()), 8));  // this version
  append(bytes, static_cast<uint32_t>(State::Applied));
  append(bytes, static_cast<uint64_t>(payload.size()));
  append(bytes,
         static_cast<uint64_t>(std::stoull(content_hash(payload).substr(0, 16), nullptr, 16)));
  append(bytes, int64_t{0});
  append_bytes(bytes, payload);
  std::string why;
  EXPECT_FALSE(decode_registry(bytes, why));
  EXPECT_NE(why.find("claims"), std::string::npos) << why;
}

// Claim: the room that link reserves before addresses are known holds the final record.
TEST(Registry, RoomIsEnough) {
  Registry before = sample();
  before.image = {};
  before.detours.front().new_code = {};
  EXPECT_GE(registry_room(before), encode_registry(sample()).size());
}

}  // namespace
}  // namespace qp::apply
