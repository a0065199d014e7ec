// The unwinder on real stacks: those of this process, compared with what glibc's unwinder says.

#include <execinfo.h>
#include <link.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/uio.h>
#include <ucontext.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <functional>
#include <thread>

#include "elf/file.h"
#include "unwind/unwind.h"

namespace qp::unwind {
namespace {

class OwnMemory final : public MemoryReader {
 public:
  size_t read_some(LiveAddr at, ByteSpan out) const override {
    iovec to{out.data(), out.size()};
    iovec from{reinterpret_cast<void*>(at.value), out.size()};
    ssize_t n = process_vm_readv(getpid(), &to, 1, &from, 1, 0);
    return n < 0 ? 0 : static_cast<size_t>(n);
  }
};

// A stack as it was when it was copied; the rest of memory as it is.
class CopiedStack final : public MemoryReader {
 public:
  CopiedStack(uint64_t start, ByteView bytes) : start_(start), bytes_(bytes) {}
  size_t read_some(LiveAddr at, ByteSpan out) const override {
    if (at.value >= start_ && at.value - start_ + out.size() <= bytes_.size()) {
      std::memcpy(out.data(), bytes_.data() + (at.value - start_), out.size());
      return out.size();
    }
    return 0;
  }

 private:
  uint64_t start_;
  ByteView bytes_;
};

const std::vector<CodeModule>& own_modules() {
  static const std::vector<CodeModule> modules = [] {
    std::vector<CodeModule> out;
    dl_iterate_phdr(
        [](dl_phdr_info* info, size_t, void* data) {
          std::string path = *info->dlpi_name != '\0' ? info->dlpi_name : "/proc/self/exe";
          if (path.starts_with("linux-vdso")) {
            return 0;
          }
          CodeModule m;
          m.name = path;
          m.bias = LoadBias{info->dlpi_addr};
          for (int i = 0; i < info->dlpi_phnum; ++i) {
            const ElfW(Phdr)& p = info->dlpi_phdr[i];
            if (p.p_type == PT_LOAD && (p.p_flags & PF_X) != 0) {
              m.range = {m.bias(LinkAddr(p.p_vaddr)), m.bias(LinkAddr(p.p_vaddr + p.p_memsz))};
            }
          }
          m.cfi = std::make_shared<elf::CfiTable>(
              elf::CfiTable::from_file(std::make_shared<elf::File>(elf::File::open(path))));
          static_cast<std::vector<CodeModule>*>(data)->push_back(std::move(m));
          return 0;
        },
        &out);
    std::sort(out.begin(), out.end(), [](const CodeModule& a, const CodeModule& b) {
      return a.range.start < b.range.start;
    });
    return out;
  }();
  return modules;
}

Registers registers_of(const ucontext_t& context) {
  const auto& g = context.uc_mcontext.gregs;
  Registers r;
  const int order[elf::kDwarfRegisters] = {REG_RAX, REG_RDX, REG_RCX, REG_RBX, REG_RSI, REG_RDI,
                                           REG_RBP, REG_RSP, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                           REG_R12, REG_R13, REG_R14, REG_R15, REG_RIP};
  for (size_t i = 0; i < r.values.size(); ++i) {
    r.values[i] = static_cast<uint64_t>(g[order[i]]);
  }
  return r;
}

std::vector<uint64_t> pcs(const Trace& t) {
  std::vector<uint64_t> out;
  for (const Frame& f : t.frames) {
    out.push_back(f.pc.value);
  }
  return out;
}

struct Both {
  Trace ours;
  std::vector<uint64_t> theirs;  // from the same function on
};

// Apart from look(): GCC takes getcontext() for a function that returns twice and warns about every
// local variable beside it.
[[gnu::noinline]] void compare(Both& out, const ucontext_t& context, void* const* theirs, int n) {
  out.ours = trace(registers_of(context), OwnMemory(), own_modules());
  for (int i = 0; i < n; ++i) {
    out.theirs.push_back(reinterpret_cast<uint64_t>(theirs[i]));
  }
}

[[gnu::noinline]] void look(Both& out) {
  void* theirs[256];
  ucontext_t context;
  const int n = backtrace(theirs, 256);
  getcontext(&context);
  compare(out, context, theirs, n);
}

[[gnu::noinline]] void descend(int depth, const std::function<void()>& bottom) {
  char* volatile room = static_cast<char*>(__builtin_alloca(static_cast<size_t>(depth) * 24 + 1));
  room[0] = 1;
  if (depth == 0) {
    bottom();
  } else {
    descend(depth - 1, bottom);
  }
  room[0] = 0;
}

void expect_equal(const Both& both) {
  ASSERT_TRUE(both.ours.complete) << both.ours.stopped;
  std::vector<uint64_t> ours = pcs(both.ours);
  ASSERT_GT(ours.size(), 2U);
  ASSERT_GE(both.theirs.size(), ours.size());
  // The innermost differ: two places in look(), and perhaps a wrapper of backtrace().
  ours.erase(ours.begin());
  std::vector<uint64_t> theirs(both.theirs.end() - static_cast<ptrdiff_t>(ours.size()),
                               both.theirs.end());
  EXPECT_EQ(ours, theirs);
}

// Claim: the main thread is unwound completely to _start, as glibc does.
TEST(OwnProcess, MainThread) {
  Both both;
  descend(20, [&] { look(both); });
  expect_equal(both);
  EXPECT_GT(both.ours.frames.size(), 20U);
}

// Claim: a thread is unwound completely to clone3.
TEST(OwnProcess, Thread) {
  Both both;
  std::thread([&] { descend(7, [&] { look(both); }); }).join();
  expect_equal(both);
}

Both* handler_result = nullptr;
void look_from_handler(int) {
  look(*handler_result);
}

// Claim: a thread inside a signal handler is unwound through the signal frame, on its own stack and
// on an alternate one.
TEST(OwnProcess, SignalHandler) {
  static Bytes alternate(256 * 1024);
  stack_t stack{};
  stack.ss_sp = alternate.data();
  stack.ss_size = alternate.size();
  stack_t before{};
  ASSERT_EQ(sigaltstack(&stack, &before), 0);
  for (int flags : {0, SA_ONSTACK}) {
    struct sigaction action {
    }, old{};
    action.sa_handler = look_from_handler;
    action.sa_flags = flags;
    ASSERT_EQ(sigaction(SIGUSR1, &action, &old), 0);
    Both both;
    handler_result = &both;
    descend(3, [] { raise(SIGUSR1); });
    sigaction(SIGUSR1, &old, nullptr);
    expect_equal(both);
    EXPECT_TRUE(std::any_of(both.ours.frames.begin(), both.ours.frames.end(),
                            [](const Frame& f) { return f.is_signal; }));
  }
  sigaltstack(&before, nullptr);
}

// What a handler copies for later: the interrupted thread, and glibc's opinion of it.
struct Snapshot {
  ucontext_t context;
  std::array<std::byte, 256 * 1024> stack;
  uint64_t stack_start = 0;
  size_t stack_size = 0;
  void* theirs[256];
  int count = 0;
  std::atomic<bool> taken = false;
};
Snapshot snapshot;
uint64_t work_stack_end = 0;

#if defined(__SANITIZE_ADDRESS__)
#define QP_RAW_COPY [[gnu::no_sanitize_address]]
#else
#define QP_RAW_COPY
#endif
QP_RAW_COPY void take_snapshot(int, siginfo_t*, void* context) {
  snapshot.context = *static_cast<ucontext_t*>(context);
  snapshot.count = backtrace(snapshot.theirs, 256);
  // Before a ret the tables still name slots that were popped already; they are in the red zone.
  snapshot.stack_start =
      (static_cast<uint64_t>(snapshot.context.uc_mcontext.gregs[REG_RSP]) & ~uint64_t{7}) - 128;
  snapshot.stack_size =
      std::min<size_t>(work_stack_end - snapshot.stack_start, snapshot.stack.size());
  iovec to{snapshot.stack.data(), snapshot.stack_size};
  iovec from{reinterpret_cast<void*>(snapshot.stack_start), snapshot.stack_size};
  snapshot.stack_size = static_cast<size_t>(process_vm_readv(getpid(), &to, 1, &from, 1, 0));
  snapshot.taken = true;
}

volatile uint64_t sink = 0;
[[gnu::noinline]] uint64_t work(uint64_t n) {
  char buffer[64];
  std::memset(buffer, static_cast<int>(n), sizeof buffer);
  sink = sink + static_cast<uint64_t>(buffer[n % 64]);
  return n < 2 ? n : work(n - 1) + work(n - 2);
}

// Claim: interrupted at any instruction (prologue, epilogue, PLT), a thread is unwound completely
// and as glibc does.
TEST(OwnProcess, AnyInstruction) {
  void* warm[4];
  backtrace(warm, 4);  // loads libgcc_s outside of the handler
  struct sigaction action {
  }, old{};
  action.sa_sigaction = take_snapshot;
  action.sa_flags = SA_SIGINFO;
  ASSERT_EQ(sigaction(SIGUSR2, &action, &old), 0);
  std::atomic<bool> stop = false, ready = false;
  std::thread worker([&] {
    pthread_attr_t attributes;
    pthread_getattr_np(pthread_self(), &attributes);
    void* start = nullptr;
    size_t size = 0;
    pthread_attr_getstack(&attributes, &start, &size);
    pthread_attr_destroy(&attributes);
    work_stack_end = reinterpret_cast<uint64_t>(start) + size;
    ready = true;
    while (!stop) {
      work(12);
    }
  });
  while (!ready) {
    sched_yield();
  }
  int compared = 0;
  for (int round = 0; round < 300; ++round) {
    snapshot.taken = false;
    pthread_kill(worker.native_handle(), SIGUSR2);
    while (!snapshot.taken) {
      sched_yield();
    }
    CopiedStack memory(snapshot.stack_start, ByteView(snapshot.stack).first(snapshot.stack_size));
    Trace ours = trace(registers_of(snapshot.context), memory, own_modules());
    EXPECT_TRUE(ours.complete) << ours.stopped;
    std::vector<uint64_t> theirs;
    for (int i = 0; i < snapshot.count; ++i) {
      theirs.push_back(reinterpret_cast<uint64_t>(snapshot.theirs[i]));
    }
    auto at = std::find(theirs.begin(), theirs.end(),
                        static_cast<uint64_t>(snapshot.context.uc_mcontext.gregs[REG_RIP]));
    EXPECT_NE(at, theirs.end());
    EXPECT_EQ(pcs(ours), std::vector<uint64_t>(at, theirs.end()));
    ++compared;
  }
  stop = true;
  worker.join();
  sigaction(SIGUSR2, &old, nullptr);
  EXPECT_EQ(compared, 300);
}

// Claim: the conservative scan finds every return address that the unwinder finds on the stack.
TEST(OwnProcess, ScanFindsEveryFrame) {
  Both both;
  std::vector<uint64_t> words;
  uint64_t start = 0;
  descend(10, [&] {
    look(both);
    start = reinterpret_cast<uint64_t>(__builtin_frame_address(0));
    uint64_t end = both.ours.frames.back().cfa.value;
    words.resize((end - start) / 8);
    OwnMemory().try_read(LiveAddr(start), std::as_writable_bytes(std::span(words)));
  });
  size_t found = 0;
  for (const Frame& f : both.ours.frames) {
    // The return address lies just below the CFA of the frame that it returns from.
    if (!f.is_return_address || f.cfa.value <= start + 16) {
      continue;
    }
    LiveRange around{f.pc - 1, f.pc};
    EXPECT_FALSE(scan_words(std::as_bytes(std::span(words)), {around}).empty());
    ++found;
  }
  EXPECT_GT(found, 10U);
}

}  // namespace
}  // namespace qp::unwind
