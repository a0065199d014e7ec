// Frames of code that has no unwind tables, on stacks and code made by hand.

#include <gmock/gmock.h>

#include "../link/patch_builder.h"
#include "fake_memory.h"
#include "unwind/unwind.h"

namespace qp::unwind {
namespace {

using link::bytes_of;
using testing::HasSubstr;

constexpr uint64_t kStack = 0x7ffd00000000;
// Functions have 64 bytes each, with int3 behind.
constexpr uint64_t kCode = 0x400000, kPart = 64, kParts = 8;

class Walked : public testing::Test {
 protected:
  Walked() : code_(kPart * kParts, std::byte{0xcc}) {}
  static uint64_t at(uint64_t part, uint64_t offset = 0) { return kCode + part * kPart + offset; }
  void put(uint64_t part, std::initializer_list<unsigned> code) {
    store_bytes(ByteSpan(code_), part * kPart, bytes_of(code));
  }
  // mov %edi,%eax; mov $231,%eax; syscall: it ends the process.
  void put_exit(uint64_t part) { put(part, {0xb8, 0xe7, 0, 0, 0, 0x0f, 0x05}); }
  // Starts at `pc` with `words` on the stack.
  Trace walk(uint64_t pc, const std::vector<uint64_t>& words, uint64_t rbp = 0,
             WalkedCode* walked = nullptr) {
    FakeMemory memory;
    memory.put_bytes(kCode, code_);
    memory.put(kStack, words);
    Registers r;
    r.values[elf::kDwarfReturn] = pc;
    r.values[elf::kDwarfRsp] = kStack;
    r.values[elf::kDwarfRbp] = rbp;
    return trace(r, memory, {{"libc", {LiveAddr(kCode), LiveAddr(kCode + code_.size())}, {}, {}}},
                 walked);
  }
  // A frame above which there is nothing: a call of part 1, then one of exit (part 7).
  uint64_t put_root(uint64_t part) {
    put_exit(7);
    code_[part * kPart] = std::byte{0xe8};  // call part 1
    store(ByteSpan(code_), part * kPart + 1, static_cast<int32_t>(at(1) - at(part, 5)));
    code_[part * kPart + 5] = std::byte{0xe8};  // call exit
    store(ByteSpan(code_), part * kPart + 6, static_cast<int32_t>(at(7) - at(part, 10)));
    return at(part, 5);
  }

  Bytes code_;
};

// Claim: what may be followed is bounded for all walks together; a walk that is cut short is incomplete,
// and is made anew when more is allowed; one that was made before costs nothing.
TEST_F(Walked, NoFurtherThanAllowed) {
  put(1, {0x90, 0x90, 0x0f, 0x05, 0x90, 0xc3});  // nop; nop; syscall; nop; ret
  const uint64_t root = put_root(2);
  const auto walked = make_walked_code();
  allow_steps(*walked, 1);
  const Trace cut = walk(at(1, 4), {root}, 0, walked.get());
  EXPECT_FALSE(cut.complete);
  EXPECT_THAT(cut.stopped, HasSubstr("takes too long"));
  allow_steps(*walked, 1000);
  EXPECT_TRUE(walk(at(1, 4), {root}, 0, walked.get()).complete);
  allow_steps(*walked, 0);
  EXPECT_TRUE(walk(at(1, 4), {root}, 0, walked.get()).complete) << "it was walked before";
}

// Claim: a function that sleeps in its middle is left as its own code would leave it, and the frame
// of code that ends in exit is the outermost.
TEST_F(Walked, ToTheOutermostFrame) {
  put(1, {0x53,                          // push %rbx
          0x48, 0x83, 0xec, 0x10,        // sub $16,%rsp
          0x0f, 0x05,                    // syscall
          0x48, 0x85, 0xc0,              // test %rax,%rax
          0x75, 0x06,                    // jne +6
          0x48, 0x83, 0xc4, 0x10,        // add $16,%rsp
          0x5b, 0xc3,                    // pop %rbx; ret
          0x48, 0x8d, 0x64, 0x24, 0x10,  // lea 16(%rsp),%rsp
          0x5b, 0xc3});                  // pop %rbx; ret
  const uint64_t back = put_root(0);
  const Trace t = walk(at(1, 7), {1, 2, 0xbb, back, 99});
  ASSERT_EQ(t.frames.size(), 2U) << t.stopped;
  EXPECT_TRUE(t.complete) << t.stopped;
  EXPECT_EQ(t.frames[1].pc, LiveAddr(back));
  EXPECT_EQ(t.unexplained_from, LiveAddr(kStack + 32));
}

// Claim: a frame pointer is followed as well, and the caller gets back the one that was saved.
TEST_F(Walked, ByFramePointer) {
  put(1, {0x55,                          // push %rbp
          0x48, 0x89, 0xe5,              // mov %rsp,%rbp
          0x48, 0x83, 0xec, 0x20,        // sub $32,%rsp
          0x90,                          // nop
          0xc9, 0xc3});                  // leave; ret
  put(2, {0xe8, 0xbb, 0xff, 0xff, 0xff,  // call part 1
          0xc9, 0xc3});                  // leave; ret
  const uint64_t back = put_root(0);
  const Trace t =
      walk(at(1, 8), {0, 0, 0, 0, kStack + 56, at(2, 5), 0, kStack + 99, back, 99}, kStack + 32);
  // The root calls part 1 and not part 2, which makes no difference.
  ASSERT_EQ(t.frames.size(), 3U) << t.stopped;
  EXPECT_EQ(t.frames[1].pc, LiveAddr(at(2, 5)));
  EXPECT_EQ(t.frames[2].pc, LiveAddr(back));
  EXPECT_TRUE(t.complete) << t.stopped;
}

// Claim: a register that is saved on the way is not taken from where it will be saved.
TEST_F(Walked, SavedOnTheWayIsUnknown) {
  put(1, {0x48, 0x89, 0x2c, 0x24,        // mov %rbp,(%rsp)
          0x31, 0xed,                    // xor %ebp,%ebp
          0x48, 0x8b, 0x2c, 0x24,        // mov (%rsp),%rbp
          0x58, 0xc3});                  // pop %rax; ret
  put(2, {0xe8, 0xbb, 0xff, 0xff, 0xff,  // call part 1
          0xc9, 0xc3});                  // leave; ret
  const Trace t = walk(at(1), {kStack + 24, at(2, 5), 0, 0, at(2, 5)}, kStack + 24);
  ASSERT_EQ(t.frames.size(), 2U);
  EXPECT_FALSE(t.complete);
}

// Claim: what lies behind a call that never returns is not followed.
TEST_F(Walked, StopsAtACallThatNeverReturns) {
  put_exit(7);
  put(1, {0x0f, 0x05,                    // syscall
          0x74, 0x05,                    // je +5
          0xe8, 0x77, 0x01, 0x00, 0x00,  // call exit (part 7)
          0x58, 0xc3});                  // pop %rax; ret
  store(ByteSpan(code_), kPart + 5, static_cast<int32_t>(at(7) - at(1, 9)));
  // If exit returned, the two ways would disagree.
  put(1, {0x0f, 0x05, 0x74, 0x06});
  code_[kPart + 9] = std::byte{0x58};   // pop %rax
  code_[kPart + 10] = std::byte{0x58};  // pop %rax
  code_[kPart + 11] = std::byte{0xc3};  // ret
  const uint64_t back = put_root(0);
  const Trace t = walk(at(1, 2), {back, back});
  EXPECT_EQ(t.frames.size(), 2U) << t.stopped;
  EXPECT_TRUE(t.complete) << t.stopped;
  EXPECT_EQ(t.unexplained_from, LiveAddr(kStack + 16));
}

// Claim: a jump through a table is not followed, and one other way to a return is enough; without
// any the walk says so.
TEST_F(Walked, JumpTables) {
  put(1, {0x0f, 0x05,    // syscall
          0x74, 0x02,    // je +2
          0xff, 0xe0,    // jmp *%rax
          0x58, 0xc3});  // pop %rax; ret
  put(2, {0x0f, 0x05,    // syscall
          0xff, 0xe0});  // jmp *%rax
  const uint64_t back = put_root(0);
  EXPECT_TRUE(walk(at(1, 2), {0, back}).complete);
  const Trace t = walk(at(2, 2), {back, back});
  EXPECT_FALSE(t.complete);
  EXPECT_THAT(t.stopped, HasSubstr("no way"));
}

// Claim: two ways that leave the stack differently are none.
TEST_F(Walked, WaysThatDisagree) {
  const uint64_t back = put_root(0);
  for (const unsigned distance : {1U, 2U}) {  // to the same return, and to one of its own
    put(1, {0x74, distance,                   // je
            0x58,                             // pop %rax
            0xc3, 0xc3});                     // ret; ret
    const Trace t = walk(at(1), {back, back});
    EXPECT_FALSE(t.complete);
    EXPECT_THAT(t.stopped, HasSubstr("disagree"));
  }
}

// Claim: a word behind no call is no return address.
TEST_F(Walked, BehindNoCall) {
  put(1, {0x0f, 0x05, 0xc3});  // syscall; ret
  put(2, {0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0xc3});
  const Trace t = walk(at(1, 2), {at(2, 9), 0, 0});
  EXPECT_FALSE(t.complete);
  EXPECT_EQ(t.frames.size(), 2U);
}

// Claim: code that was interrupted by a signal is found behind the restorer, which needs no table.
TEST_F(Walked, SignalFrame) {
  put(1, {0xc3});                                         // the handler: ret
  put(2, {0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05});  // mov $15,%rax; syscall
  put(3, {0x90, 0x58, 0xc3});                             // nop; pop %rax; ret
  const uint64_t back = put_root(0);
  std::vector<uint64_t> words(40);
  words[0] = at(2);
  words[1 + 5 + 15] = kStack + 30 * 8;  // rsp of who was interrupted: uc_mcontext is 40 bytes on
  words[1 + 5 + 16] = at(3, 1);         // rip
  words[31] = back;
  const Trace t = walk(at(1), words);
  ASSERT_EQ(t.frames.size(), 4U) << t.stopped;
  EXPECT_TRUE(t.frames[1].is_signal);
  EXPECT_EQ(t.frames[2].pc, LiveAddr(at(3, 1)));
  EXPECT_FALSE(t.frames[2].is_return_address);
  EXPECT_TRUE(t.complete) << t.stopped;
}

// Claim: a walk that was made before counts only as long as what was read on the way is the same.
TEST_F(Walked, KeptWalks) {
  put(1, {0x0f, 0x05, 0xc3});  // syscall; ret
  const uint64_t first = put_root(0), second = put_root(2);
  const auto walked = make_walked_code();
  for (const uint64_t back : {first, first, second, first}) {
    const Trace t = walk(at(1, 2), {back, 0}, 0, walked.get());
    ASSERT_EQ(t.frames.size(), 2U) << t.stopped;
    EXPECT_EQ(t.frames[1].pc, LiveAddr(back));
    EXPECT_TRUE(t.complete) << t.stopped;
  }
}

// Claim: code that calls itself, loops, or runs out of its module ends every walk.
TEST_F(Walked, AlwaysEnds) {
  put(1, {0xeb, 0xfe});                    // jmp .
  put(2, {0xe8, 0xfb, 0xff, 0xff, 0xff});  // call itself
  put(3, {0xe9, 0, 0, 0, 0x7f});           // jmp far out
  EXPECT_TRUE(walk(at(1), {0}).complete);  // it never returns
  EXPECT_FALSE(walk(at(2), {0}).complete);
  EXPECT_FALSE(walk(at(3), {0}).complete);
}

}  // namespace
}  // namespace qp::unwind
