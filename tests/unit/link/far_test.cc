// Patches whose images lie anywhere: what becomes of code that reaches its target by a distance.

#include <gmock/gmock.h>

#include "link/far.h"
#include "patch_builder.h"

namespace qp::link {
namespace {

using elf::RelocType;
using testing::ElementsAre;
using testing::IsEmpty;

constexpr uint64_t kFarBase = 0x7f0000000000;

// A function of one instruction, with a field at `field` that leads to a variable of the target, and a
// return.
struct One {
  PatchBuilder b;
  elf::AtomSymbolId function, variable;
  Report report;
  format::Patch far;

  One(Bytes instruction, uint64_t field, RelocType type = RelocType::PC32) {
    const auto size = instruction.size();
    instruction.push_back(std::byte{0xc3});
    function = b.function("f", std::move(instruction));
    variable = b.bound("variable", 0x3000);
    b.ref(function, field, type, variable,
          static_cast<int64_t>(field) - static_cast<int64_t>(size));
    far = make_far(b.patch, report);
  }
  Bytes code() const { return far.fresh.atoms[0].bytes; }
  // Of the last atom that is code; empty: there is no other.
  Bytes thunk() const {
    for (size_t i = far.fresh.atoms.size() - 1; i > 0; --i) {
      if (far.fresh.atoms[i].storage == elf::Storage::Text) {
        return far.fresh.atoms[i].bytes;
      }
    }
    return {};
  }
  std::vector<std::string> refusals() const { return ids(report); }
};

// Claim: an image that is terabytes away from its target is linked without a finding, a call goes to a
// thunk, and its word is filled with the address of the function.
TEST(Far, CallGoesThroughAWord) {
  One one(bytes_of({0xe8, 0, 0, 0, 0}), 1, RelocType::PLT32);
  EXPECT_THAT(one.refusals(), IsEmpty());
  EXPECT_THAT(findings(one.b.patch, kFarBase), ElementsAre("reloc-range"));
  const Linked linked(one.far, kFarBase);
  EXPECT_TRUE(linked.report.clean());
  const uint64_t f = linked.address_of("f");
  const uint64_t thunk = f + 5 + static_cast<uint64_t>(linked.at<int32_t>(f + 1));
  EXPECT_EQ(linked.at<uint16_t>(thunk), 0x25ff);
  const Fill* fill =
      linked.fill_at(thunk + 6 + static_cast<uint64_t>(linked.at<int32_t>(thunk + 2)));
  ASSERT_NE(fill, nullptr);
  EXPECT_EQ(fill->kind, Fill::Kind::Address);
  EXPECT_EQ(fill->address, LinkAddr(0x3000));
}

// Claim: references within the image, and those that no distance bounds, stay as they are.
TEST(Far, OthersStay) {
  PatchBuilder b;
  const auto f = b.function("f", bytes_of({0x48, 0x8b, 0x05, 0, 0, 0, 0, 0xe8, 0, 0, 0, 0, 0xc3}));
  b.ref(f, 3, RelocType::REX_GOTPCRELX, b.bound("variable", 0x3000), -4);
  b.ref(f, 8, RelocType::PLT32, b.import("elsewhere"), -4);
  const auto data = b.data("pointer", Bytes(8));
  b.ref(data, 0, RelocType::R64, b.bound("other", 0x4000));
  Report report;
  EXPECT_EQ(make_far(b.patch, report).fresh, b.patch.fresh);
  EXPECT_TRUE(report.clean());
}

// Claim: the target's own stubs are reached through words as well, so that they stay in use.
TEST(Far, StubOfTheTarget) {
  PatchBuilder b;
  const auto f = b.function("f", bytes_of({0xe9, 0, 0, 0, 0}));
  b.ref(f, 1, RelocType::PLT32, b.import("imported", 0x1020), -4);
  Report report;
  const Linked linked(make_far(b.patch, report), kFarBase);
  EXPECT_TRUE(report.clean() && linked.report.clean());
  ASSERT_EQ(linked.image.fills.size(), 1U);
  EXPECT_EQ(linked.image.fills[0].address, LinkAddr(0x1020));
}

Bytes joined(std::initializer_list<Bytes> parts) {
  Bytes out;
  for (const Bytes& part : parts) {
    append_bytes(out, part);
  }
  return out;
}

// jmp thunk, over an instruction of `size` bytes in front of a ret.
Bytes jump_over(size_t size) {
  Bytes out = bytes_of({0xe9, 0, 0, 0, 0});
  out.resize(size, std::byte{0xcc});
  out.push_back(std::byte{0xc3});
  return out;
}

// What stands around an access for which a register of 0 to 7 is saved.
Bytes around(unsigned reg, const Bytes& access) {
  return joined({bytes_of({0x48, 0x8d, 0x64, 0x24, 0x80,                 // lea -128(%rsp),%rsp
                           0x50 + reg,                                   // push %reg
                           0x48, 0x8b, 0x05 | (reg << 3), 0, 0, 0, 0}),  // mov word(%rip),%reg
                 access,
                 bytes_of({0x58 + reg,                             // pop %reg
                           0x48, 0x8d, 0xa4, 0x24, 0x80, 0, 0, 0,  // lea 128(%rsp),%rsp
                           0xe9, 0, 0, 0, 0})});                   // jmp back
}

struct Rewritten {
  const char* name;
  Bytes instruction;
  uint64_t field;
  Bytes code, thunk;
};
std::ostream& operator<<(std::ostream& out, const Rewritten& r) {
  return out << r.name;
}

class FarInstruction : public testing::TestWithParam<Rewritten> {};

// Claim: each form of instruction becomes one, or a thunk, that does the same by an address in a
// register, and keeps all registers, flags and the 128 bytes below the stack pointer.
TEST_P(FarInstruction, IsRewritten) {
  One one(GetParam().instruction, GetParam().field);
  EXPECT_THAT(one.refusals(), IsEmpty());
  EXPECT_EQ(hex(one.code()), hex(GetParam().code));
  EXPECT_EQ(hex(one.thunk()), hex(GetParam().thunk));
  const Linked linked(one.far, kFarBase);
  EXPECT_TRUE(linked.report.clean());
}

INSTANTIATE_TEST_SUITE_P(
    Form, FarInstruction,
    testing::Values(
        // lea variable(%rip),%r12
        Rewritten{"lea",
                  bytes_of({0x4c, 0x8d, 0x25, 0, 0, 0, 0}),
                  3,
                  bytes_of({0x4c, 0x8b, 0x25, 0, 0, 0, 0, 0xc3}),
                  {}},
        // mov variable(%rip),%eax
        Rewritten{"load", bytes_of({0x8b, 0x05, 0, 0, 0, 0}), 2, jump_over(6),
                  bytes_of({0x48, 0x8b, 0x05, 0, 0, 0, 0, 0x8b, 0x00, 0xe9, 0, 0, 0, 0})},
        // movzbl variable(%rip),%r10d
        Rewritten{
            "load_of_high_register", bytes_of({0x44, 0x0f, 0xb6, 0x15, 0, 0, 0, 0}), 4,
            jump_over(8),
            bytes_of({0x4c, 0x8b, 0x15, 0, 0, 0, 0, 0x45, 0x0f, 0xb6, 0x12, 0xe9, 0, 0, 0, 0})},
        // mov variable(%rip),%r12
        Rewritten{"load_of_r12", bytes_of({0x4c, 0x8b, 0x25, 0, 0, 0, 0}), 3, jump_over(7),
                  around(0, bytes_of({0x4c, 0x8b, 0x20}))},
        // mov variable(%rip),%al
        Rewritten{"load_of_a_part", bytes_of({0x8a, 0x05, 0, 0, 0, 0}), 2, jump_over(6),
                  around(1, bytes_of({0x8a, 0x01}))},
        // mov %rax,variable(%rip)
        Rewritten{"store", bytes_of({0x48, 0x89, 0x05, 0, 0, 0, 0}), 3, jump_over(7),
                  around(1, bytes_of({0x48, 0x89, 0x01}))},
        // movl $7,variable(%rip)
        Rewritten{"immediate", bytes_of({0xc7, 0x05, 0, 0, 0, 0, 7, 0, 0, 0}), 2, jump_over(10),
                  around(0, bytes_of({0xc7, 0x00, 7, 0, 0, 0}))},
        // lock cmpxchg %rcx,variable(%rip)
        Rewritten{"compare_and_swap", bytes_of({0xf0, 0x48, 0x0f, 0xb1, 0x0d, 0, 0, 0, 0}), 5,
                  jump_over(9), around(2, bytes_of({0xf0, 0x48, 0x0f, 0xb1, 0x0a}))},
        // mulq variable(%rip)
        Rewritten{"multiplication", bytes_of({0x48, 0xf7, 0x25, 0, 0, 0, 0}), 3, jump_over(7),
                  around(1, bytes_of({0x48, 0xf7, 0x21}))},
        // vmulsd variable(%rip),%xmm0,%xmm0
        Rewritten{"vector", bytes_of({0xc5, 0xfb, 0x59, 0x05, 0, 0, 0, 0}), 4, jump_over(8),
                  around(0, bytes_of({0xc5, 0xfb, 0x59, 0x00}))},
        // vaddps variable(%rip),%zmm0,%zmm0
        Rewritten{"wide_vector", bytes_of({0x62, 0xf1, 0x7c, 0x48, 0x58, 0x05, 0, 0, 0, 0}), 6,
                  jump_over(10), around(0, bytes_of({0x62, 0xf1, 0x7c, 0x48, 0x58, 0x00}))},
        // vpermw variable(%rip),%zmm0,%zmm0, whose last bytes look like a lea
        Rewritten{"permutation", bytes_of({0x62, 0xf2, 0xfd, 0x48, 0x8d, 0x05, 0, 0, 0, 0}), 6,
                  jump_over(10), around(0, bytes_of({0x62, 0xf2, 0xfd, 0x48, 0x8d, 0x00}))},
        // call *variable(%rip)
        Rewritten{"call", bytes_of({0xff, 0x15, 0, 0, 0, 0}), 2,
                  bytes_of({0x90, 0xe8, 0, 0, 0, 0, 0xc3}),
                  bytes_of({0x4c, 0x8b, 0x1d, 0, 0, 0, 0, 0x41, 0xff, 0x23})},
        // jmp *variable(%rip)
        Rewritten{"jump", bytes_of({0xff, 0x25, 0, 0, 0, 0}), 2, jump_over(6),
                  bytes_of({0x4c, 0x8b, 0x1d, 0, 0, 0, 0, 0x41, 0xff, 0x23})}),
    [](const auto& test) { return test.param.name; });

// Claim: what needs the stack pointer, or is entered in its middle, or is data, is refused with its name
// and that of what it refers to.
TEST(Far, RefusesWhatCantBeChanged) {
  One push(bytes_of({0xff, 0x35, 0, 0, 0, 0}), 2);
  EXPECT_THAT(push.refusals(), ElementsAre("no-room"));
  EXPECT_EQ(push.report.refusals().front().where, "f");
  EXPECT_NE(push.report.refusals().front().detail.find("variable"), std::string::npos);
  // je over the lock prefix of the instruction behind it
  One lock(bytes_of({0x74, 0x01, 0xf0, 0x48, 0xff, 0x05, 0, 0, 0, 0}), 6);
  EXPECT_THAT(lock.refusals(), ElementsAre("no-room"));
  // addl $1 to a variable, by an address of 32 bits; by one in a segment, behind a lock prefix
  One narrow(bytes_of({0x67, 0x83, 0x05, 0, 0, 0, 0, 1}), 3);
  EXPECT_THAT(narrow.refusals(), ElementsAre("no-room"));
  One segment(bytes_of({0xf0, 0x64, 0x83, 0x05, 0, 0, 0, 0, 1}), 4);
  EXPECT_THAT(segment.refusals(), ElementsAre("no-room"));
  PatchBuilder b;
  const auto table = b.data("table", Bytes(4), elf::Storage::ReadOnly);
  b.ref(table, 0, RelocType::PC32, b.bound("variable", 0x3000));
  Report report;
  make_far(b.patch, report);
  EXPECT_THAT(ids(report), ElementsAre("no-room"));
}

// Claim: a jump through a variable is taken for the end of a function only if nothing makes an address of
// a label in it.
TEST(Far, ComputedGotoIsRefused) {
  One tail(bytes_of({0xff, 0x25, 0, 0, 0, 0}), 2);
  EXPECT_THAT(tail.refusals(), IsEmpty());
  const auto labels = tail.b.data("labels", Bytes(8));
  tail.b.ref(labels, 0, RelocType::R64, tail.function, 6);
  Report report;
  make_far(tail.b.patch, report);
  EXPECT_THAT(ids(report), ElementsAre("no-room"));
  // lea 0x0(%rip),%rax, of the assembler's own
  One own(bytes_of({0x48, 0x8d, 0x05, 0, 0, 0, 0, 0xff, 0x25, 0, 0, 0, 0}), 9);
  EXPECT_THAT(own.refusals(), ElementsAre("no-room"));
}

// Claim: an address in an immediate goes along with its instruction.
TEST(Far, ImmediateGoesAlong) {
  PatchBuilder b(false);
  const auto f = b.function("f", bytes_of({0x48, 0xc7, 0x05, 0, 0, 0, 0, 0, 0, 0, 0, 0xc3}));
  b.ref(f, 3, RelocType::PC32, b.bound("variable", 0x403000), -8);
  b.ref(f, 7, RelocType::R32S, b.bound("function", 0x401230));
  Report report;
  const format::Patch far = make_far(b.patch, report);
  EXPECT_THAT(ids(report), IsEmpty());
  const Linked linked(far, kFarBase);
  EXPECT_TRUE(linked.report.clean());
  const uint64_t at = linked.address_of("f");
  const uint64_t thunk = at + 5 + static_cast<uint64_t>(linked.at<int32_t>(at + 1));
  // lea, push, mov word(%rip),%rax, and then movq $0x401230,(%rax)
  EXPECT_EQ(linked.at<uint32_t>(thunk + 13 + 3), 0x401230U);
}

// Claim: the unwind entry of a thunk says what the function's says at that place, and what the thunk has
// put on the stack.
TEST(Far, UnwindEntryOfAThunk) {
  One one(bytes_of({0x55, 0x48, 0x01, 0x05, 0, 0, 0, 0, 0x5d}), 4);
  elf::FrameEntry frame;
  frame.size = 10;
  frame.cie = bytes_of({1, 0, 1, 0x78, 16, 0x0c, 7, 8, 0x90, 1});
  frame.instructions = bytes_of({0x41, 0x0e, 16, 0x86, 2, 0x48, 0x0e, 8});
  one.b.atom_of(one.function).frames.push_back(frame);
  Report report;
  const format::Patch far = make_far(one.b.patch, report);
  const elf::Atom& thunk = far.fresh.atoms.back();
  ASSERT_EQ(thunk.frames.size(), 1U);
  EXPECT_EQ(thunk.frames[0].size, thunk.size);
  EXPECT_EQ(thunk.frames[0].instructions,
            bytes_of({0x0e, 16, 0x86, 2,    // behind the push
                      0x45, 0x0e, 0x90, 1,  // 16 + 128
                      0x41, 0x0e, 0x98, 1,  // 16 + 136
                      0x4b, 0x0e, 0x90, 1,  // behind the access and the pop
                      0x48, 0x0e, 16}));
}

}  // namespace
}  // namespace qp::link
