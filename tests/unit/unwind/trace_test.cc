// The unwinder on stacks made by hand, most of them hostile.

#include <gmock/gmock.h>

#include <random>

#include "../link/patch_builder.h"
#include "fake_memory.h"
#include "unwind/unwind.h"

namespace qp::unwind {
namespace {

using link::bytes_of;
using testing::HasSubstr;

constexpr uint64_t kStack = 0x7ffd00000000;
constexpr LoadBias kBias{0x1000000};

// Functions of 16 bytes each, whose unwind entries say what a test wants.
class Victim {
 public:
  // `cfa`: the CFA instructions of the function; `signal`: a signal trampoline.
  void function(const std::string& name, Bytes cfa, bool signal = false) {
    elf::FrameEntry e;
    e.size = 16;
    e.cie = signal ? bytes_of({1, 'z', 'R', 'S', 0, 1, 0x78, 0x10, 1, 0x1b})
                   : bytes_of({1, 'z', 'R', 0, 1, 0x78, 0x10, 1, 0x1b});
    e.instructions = std::move(cfa);
    builder_.atom_of(builder_.function(name, Bytes(16, std::byte{0x90}))).frames = {e};
  }
  std::vector<CodeModule> modules() {
    linked_ = std::make_unique<link::Linked>(builder_.patch, 0x400000);
    LinkRange r = linked_->image.range;
    return {{"victim",
             {kBias(r.start), kBias(r.end)},
             kBias,
             std::make_shared<elf::CfiTable>(elf::CfiTable::from_file(linked_->file))}};
  }
  uint64_t pc(const std::string& name, uint64_t offset = 4) const {
    return kBias(LinkAddr(linked_->address_of(name))).value + offset;
  }

 private:
  link::PatchBuilder builder_;
  std::unique_ptr<link::Linked> linked_;
};

// CFA = rsp + 16, return address at CFA − 8.
Bytes leaf() {
  return bytes_of({0x0c, 7, 16, 0x90, 1});
}
// CFA = rbp + 16, return address at CFA − 8, rbp at CFA − 16.
Bytes framed() {
  return bytes_of({0x0c, 6, 16, 0x90, 1, 0x86, 2});
}
// CFA = rsp + 8, return address undefined.
Bytes outermost() {
  return bytes_of({0x0c, 7, 8, 0x07, 16});
}

Registers at(uint64_t pc, uint64_t sp, uint64_t bp = 0) {
  Registers r;
  r.values[elf::kDwarfReturn] = pc;
  r.values[elf::kDwarfRsp] = sp;
  r.values[elf::kDwarfRbp] = bp;
  return r;
}

// Claim: a walk through frames of both kinds ends complete at an undefined return address.
TEST(Trace, WalksToTheOutermostFrame) {
  Victim v;
  v.function("leaf", leaf());
  v.function("middle", framed());
  v.function("start", outermost());
  auto modules = v.modules();
  FakeMemory memory;
  // leaf's local, return into middle; …; saved rbp, return into start
  memory.put(kStack, {0, v.pc("middle"), 0, 0, 0xbb, v.pc("start"), 0});
  Trace t = trace(at(v.pc("leaf"), kStack, kStack + 32), memory, modules);
  ASSERT_TRUE(t.complete) << t.stopped;
  ASSERT_EQ(t.frames.size(), 3U);
  EXPECT_EQ(t.frames[0].cfa, LiveAddr(kStack + 16));
  EXPECT_FALSE(t.frames[0].is_return_address);
  EXPECT_EQ(t.frames[1].pc, LiveAddr(v.pc("middle")));
  EXPECT_TRUE(t.frames[1].is_return_address);
  EXPECT_EQ(t.frames[1].cfa, LiveAddr(kStack + 48));
  EXPECT_EQ(t.frames[2].pc, LiveAddr(v.pc("start")));
}

// Claim: a caller is looked up one byte before its return address, which may be the next function.
TEST(Trace, CallAtTheEndOfAFunction) {
  Victim v;
  v.function("leaf", leaf());
  v.function("caller", outermost());
  v.function("next", leaf());
  auto modules = v.modules();
  FakeMemory memory;
  memory.put(kStack, {0, v.pc("caller", 16)});
  EXPECT_TRUE(trace(at(v.pc("leaf"), kStack), memory, modules).complete);
}

// Claim: the program counter itself is looked up as it is, at a function's first byte too.
TEST(Trace, FirstInstruction) {
  Victim v;
  v.function("before", leaf());
  v.function("start", outermost());
  auto modules = v.modules();
  EXPECT_TRUE(trace(at(v.pc("start", 0), kStack), FakeMemory(), modules).complete);
}

// Claim: a return address of zero is not an end that counts.
TEST(Trace, ZeroIsNotAnEnd) {
  Victim v;
  v.function("leaf", leaf());
  auto modules = v.modules();
  FakeMemory memory;
  memory.put(kStack, {0, 0});
  Trace t = trace(at(v.pc("leaf"), kStack), memory, modules);
  EXPECT_FALSE(t.complete);
  EXPECT_THAT(t.stopped, HasSubstr("0x0 is in no module"));
  EXPECT_EQ(t.frames.size(), 2U);
}

// Claim: code without unwind tables, and tables without an entry, end the walk incomplete.
TEST(Trace, NoTables) {
  Victim v;
  v.function("leaf", leaf());
  auto modules = v.modules();
  Trace t = trace(at(modules[0].range.start.value + 8, kStack), FakeMemory(), modules);
  EXPECT_FALSE(t.complete);
  EXPECT_THAT(t.stopped, HasSubstr("no unwind entry"));
  modules[0].cfi = nullptr;
  EXPECT_FALSE(trace(at(v.pc("leaf"), kStack), FakeMemory(), modules).complete);
  EXPECT_FALSE(trace(at(v.pc("leaf"), kStack), FakeMemory(), {}).complete);
}

// Claim: a stack that can't be read ends the walk incomplete.
TEST(Trace, UnreadableStack) {
  Victim v;
  v.function("leaf", leaf());
  auto modules = v.modules();
  Trace t = trace(at(v.pc("leaf"), kStack), FakeMemory(), modules);
  EXPECT_FALSE(t.complete);
  EXPECT_THAT(t.stopped, HasSubstr("can't be read"));
}

// Claim: a cycle of frame pointers ends at the first frame that does not lie above the last.
TEST(Trace, CycleOfFramePointers) {
  Victim v;
  v.function("f", framed());
  auto modules = v.modules();
  FakeMemory memory;
  memory.put(kStack, {kStack + 16, v.pc("f"), kStack, v.pc("f")});
  Trace t = trace(at(v.pc("f"), kStack - 8, kStack), memory, modules);
  EXPECT_FALSE(t.complete);
  EXPECT_EQ(t.frames.size(), 3U);
  EXPECT_THAT(t.stopped, HasSubstr("above"));
}

// "The interrupted registers lie at rsp": rsp at CFA + 8, pc at CFA, and the CFA is rsp.
Bytes trampoline() {
  return bytes_of({0x0f, 2, 0x77, 0,        // def_cfa_expression: breg7 0
                   0x10, 7, 2, 0x23, 8,     // rsp at CFA + 8
                   0x10, 16, 2, 0x23, 0});  // pc at CFA
}

// Claim: across a signal frame the stack may move anywhere, and the interrupted pc is looked up as
// it is.
TEST(Trace, SignalFrame) {
  Victim v;
  v.function("handler", leaf());
  v.function("trampoline", trampoline(), true);
  v.function("start", outermost());
  auto modules = v.modules();
  FakeMemory memory;
  memory.put(kStack, {0, v.pc("trampoline"), v.pc("start", 0), kStack - 0x1000});
  Trace t = trace(at(v.pc("handler"), kStack), memory, modules);
  ASSERT_TRUE(t.complete) << t.stopped;
  ASSERT_EQ(t.frames.size(), 3U);
  EXPECT_TRUE(t.frames[1].is_signal);
  EXPECT_FALSE(t.frames[2].is_return_address);
  EXPECT_FALSE(t.frames[2].is_signal);
}

// Claim: a cycle of forged signal frames is ended by the limit.
TEST(Trace, CycleOfSignalFrames) {
  Victim v;
  v.function("trampoline", trampoline(), true);
  auto modules = v.modules();
  FakeMemory memory;
  memory.put(kStack, {v.pc("trampoline"), kStack});
  Trace t = trace(at(v.pc("trampoline"), kStack), memory, modules);
  EXPECT_FALSE(t.complete);
  EXPECT_EQ(t.frames.size(), 4096U);
}

// Claim: a register that the tables call undefined has no value further up.
TEST(Trace, UndefinedRegisterIsNotGuessed) {
  Victim v;
  v.function("leaf", bytes_of({0x0c, 7, 16, 0x90, 1, 0x07, 6}));  // rbp undefined
  v.function("middle", framed());
  v.function("start", outermost());
  auto modules = v.modules();
  FakeMemory memory;
  memory.put(kStack, {0, v.pc("middle"), 0, 0, 0xbb, v.pc("start"), 0});
  Trace t = trace(at(v.pc("leaf"), kStack, kStack + 32), memory, modules);
  EXPECT_FALSE(t.complete);
  EXPECT_THAT(t.stopped, HasSubstr("can't be computed"));
}

// Claim: a rule with an operation that is not known ends the walk incomplete.
TEST(Trace, UnknownOperation) {
  Victim v;
  v.function("odd", bytes_of({0x0f, 3, 0x2f, 0, 0, 0x90, 1}));  // CFA: DW_OP_skip 0
  auto modules = v.modules();
  EXPECT_FALSE(trace(at(v.pc("odd"), kStack), FakeMemory(), modules).complete);
}

// Claim: whatever lies on the stack, the walk ends; it is complete only at the outermost function.
TEST(Trace, GarbageOnTheStack) {
  Victim v;
  v.function("leaf", leaf());
  v.function("framed", framed());
  v.function("trampoline", trampoline(), true);
  v.function("start", outermost());
  auto modules = v.modules();
  std::vector<uint64_t> likely;
  for (const char* name : {"leaf", "framed", "trampoline", "start"}) {
    for (uint64_t offset : {0, 4, 15, 16}) {
      likely.push_back(v.pc(name, offset));
    }
  }
  std::mt19937_64 random(3);
  int complete = 0;
  for (int round = 0; round < 3000; ++round) {
    std::vector<uint64_t> words(64);
    for (uint64_t& w : words) {
      switch (random() % 4) {
        case 0:
          w = random();
          break;
        case 1:
          w = kStack + random() % 64 * 8;
          break;
        default:
          w = likely[random() % likely.size()];
          break;
      }
    }
    FakeMemory memory;
    memory.put(kStack, words);
    Trace t = trace(at(likely[random() % likely.size()], kStack, kStack + random() % 64 * 8),
                    memory, modules);
    ASSERT_FALSE(t.frames.empty());
    if (t.complete) {
      ++complete;
      uint64_t last = t.frames.back().pc.value - v.pc("start", 0);
      EXPECT_LE(last, 16U);
    } else {
      EXPECT_FALSE(t.stopped.empty());
    }
  }
  EXPECT_GT(complete, 100);
}

}  // namespace
}  // namespace qp::unwind
