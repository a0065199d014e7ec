// If qpatch dies while a thread runs a system call for it, the kernel lets the thread run on: behind
// the `syscall` instruction, with registers that mean nothing to the program. So the thread gets a
// way home before it leaves. The call is made at a place of the process's code that reads
// `syscall; ret`, with a stack pointer on a frame as the kernel lays it for a signal handler: the
// return address is that of a restorer, which asks for rt_sigreturn, and the frame holds everything
// that the thread was: registers, signal mask, vector state. Nobody has to be there for it.
//
// Layout: struct rt_sigframe, ucontext, sigcontext (Linux arch/x86/include/asm/sigframe.h,
// include/uapi/asm/sigcontext.h). The vector state is what NT_X86_XSTATE gives, with the words that
// tell sigreturn its size: at 464, and behind its end (struct _fpx_sw_bytes). A size larger than
// what the task may use makes the kernel restore the oldest part only (arch/x86/kernel/fpu/
// signal.c: check_xstate_in_sigframe), so AMX tiles, which a task has to ask for, are left out if
// they are not in use.
//
// A call that was interrupted is started again: all that can be interrupted without an effect
// (ERESTART*, and interrupted_call.cc's) get their number back and the instruction pointer on the
// `syscall`. A wait with a timeout starts in full.
//
// An alternate signal stack is restored from the frame too; an invalid one is ignored by the kernel
// (restore_altstack), so the thread keeps its own.
//
// The stack. Nothing is where a signal frame could not be, but a program without signals may have
// stacks that are too small for one, next to something else. Only stacks that are known to be
// alone in their mapping are used: the main thread's, and those with a guard page below, as
// pthread_create makes them. What was there is put back in the end.

#include "proc/way_home.h"

#include <cpuid.h>
#include <sys/syscall.h>

#include <algorithm>
#include <array>

#include "base/error.h"
#include "proc/code_search.h"
#include "proc/interrupted_call.h"

namespace qp::proc {
namespace {

constexpr uint64_t kRedZone = 128;       // psABI 3.2.2
constexpr uint64_t kHeadroom = 8 << 10;  // that stays free below what we write

// struct rt_sigframe.
constexpr size_t kUcontext = 8, kFlags = kUcontext, kAltFlags = kUcontext + 24,
                 kRegisters = kUcontext + 40, kSelectors = kRegisters + 18 * 8,
                 kFpstate = kRegisters + 184, kMask = kRegisters + 256,
                 kFrameSize = kMask + 8 + 128;
constexpr uint64_t kUcFlags = 1 | 2 | 4;  // UC_FP_XSTATE, UC_SIGCONTEXT_SS, UC_STRICT_RESTORE_SS
constexpr uint32_t kNoAltStack = 0x55;    // neither of the modes there are

constexpr size_t kSwReserved = 464, kXstateBv = 512;
constexpr uint32_t kMagic1 = 0x46505853, kMagic2 = 0x46505845;
constexpr uint64_t kTileData = uint64_t{1} << 18;

// Where each feature's part ends in the standard form (Intel SDM 1, 13.4.3). Asked once: under a
// hypervisor each CPUID takes its time, and a thread may be waiting.
const std::array<uint64_t, 63>& xstate_ends() {
  static const std::array<uint64_t, 63> ends = [] {
    std::array<uint64_t, 63> out{};
    for (unsigned i = 2; i < out.size(); ++i) {
      unsigned length = 0, offset = 0, c = 0, d = 0;
      if (__get_cpuid_count(0xd, i, &length, &offset, &c, &d) != 0) {
        out[i] = uint64_t{offset} + length;
      }
    }
    return out;
  }();
  return ends;
}

uint64_t xstate_size(uint64_t features) {
  uint64_t size = 512 + 64;
  for (size_t i = 2; i < xstate_ends().size(); ++i) {
    size = (features >> i & 1) != 0 ? std::max(size, xstate_ends()[i]) : size;
  }
  return size;
}

// The area with its magic words. Empty: not of the expected form.
Bytes make_fpstate(const Bytes& extended) {
  if (extended.size() < kXstateBv + 64) {
    return {};
  }
  uint64_t features = load<uint64_t>(extended, kSwReserved);
  if ((load<uint64_t>(extended, kXstateBv) & kTileData) == 0) {
    features &= ~kTileData;
  }
  const uint64_t size = xstate_size(features);
  if (size > extended.size()) {
    return {};
  }
  Bytes out = copy(ByteView(extended).first(size));
  std::fill(out.begin() + kSwReserved, out.begin() + kXstateBv, std::byte{0});
  store(ByteSpan(out), kSwReserved, kMagic1);
  store(ByteSpan(out), kSwReserved + 4, static_cast<uint32_t>(size + sizeof kMagic2));
  store(ByteSpan(out), kSwReserved + 8, features);
  store(ByteSpan(out), kSwReserved + 16, static_cast<uint32_t>(size));
  append(out, kMagic2);
  return out;
}

// As the thread would go on by itself.
GeneralRegisters going_on(GeneralRegisters r) {
  const auto result = static_cast<int64_t>(r.rax);
  const bool restarts = static_cast<int64_t>(r.orig_rax) >= 0 && result <= -512 && result >= -516;
  if (restarts || would_return_eintr(r)) {
    r.rax = r.orig_rax;
    r.rip -= 2;
  }
  return r;
}

Bytes make_frame(const SavedThread& saved, LiveAddr restorer, LiveAddr fpstate) {
  const GeneralRegisters r = going_on(saved.registers);
  Bytes out(kFrameSize);
  ByteSpan frame(out);
  store(frame, 0, restorer.value);
  store(frame, kFlags, kUcFlags);
  store(frame, kAltFlags, kNoAltStack);
  size_t at = kRegisters;
  for (uint64_t value : {r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14, r.r15, r.rdi, r.rsi, r.rbp,
                         r.rbx, r.rdx, r.rax, r.rcx, r.rsp, r.rip, r.eflags}) {
    store(frame, at, value);
    at += sizeof value;
  }
  store(frame, kSelectors, static_cast<uint16_t>(r.cs));
  store(frame, kSelectors + 6, static_cast<uint16_t>(r.ss));
  store(frame, kFpstate, fpstate.value);
  store(frame, kMask, saved.signal_mask);
  return out;
}

// How far down the stack reaches that `sp` lies in. Nullopt: not known to be a stack of its own.
std::optional<LiveAddr> bottom_of_stack(const std::vector<Mapping>& mappings, LiveAddr sp) {
  auto it = std::find_if(mappings.begin(), mappings.end(),
                         [&](const Mapping& m) { return m.range.contains(sp); });
  if (it == mappings.end() || !it->readable || !it->writable || it->shared) {
    return std::nullopt;
  }
  bool guarded = it != mappings.begin() && std::prev(it)->range.end == it->range.start &&
                 !std::prev(it)->readable && !std::prev(it)->writable;
  return it->name == "[stack]" || (guarded && it->inode == 0) ? std::optional(it->range.start)
                                                              : std::nullopt;
}

}  // namespace

std::optional<HomeCode> find_home_code(const Process& process,
                                       const std::vector<Mapping>& mappings) {
  // glibc sysdeps/unix/sysv/linux/x86_64/libc_sigaction.c: __restore_rt
  constexpr std::array<uint8_t, 9> kRestorer = {0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0,  // mov $15,%rax
                                                0x0f, 0x05};                      // syscall
  constexpr std::array<uint8_t, 3> kCall = {0x0f, 0x05,                           // syscall
                                            0xc3};                                // ret
  xstate_ends();
  std::optional<LiveAddr> call, restorer;
  const auto is_libc = [](const Mapping& m) { return m.name.find("/libc") != std::string::npos; };
  // A static program has what it uses of libc in its own code.
  const bool linked = std::any_of(mappings.begin(), mappings.end(),
                                  [&](const Mapping& m) { return m.executable && is_libc(m); });
  for (const Mapping& m : mappings) {
    if (!m.executable || (linked ? !is_libc(m) : m.inode == 0)) {
      continue;
    }
    restorer = restorer ? restorer : find_code(process.memory(), m.range, kRestorer);
    call = call ? call : find_code(process.memory(), m.range, kCall);
  }
  return call && restorer ? std::optional(HomeCode{*call, *restorer}) : std::nullopt;
}

std::optional<HomeFrame> make_home_frame(const SavedThread& saved, LiveAddr end, LiveAddr restorer,
                                         uint64_t beyond) {
  const Bytes fpstate = make_fpstate(saved.extended);
  if (fpstate.empty() || end.value < fpstate.size() + kFrameSize + 128) {
    return std::nullopt;
  }
  const LiveAddr area(align_down(end.value - fpstate.size(), 64));
  HomeFrame out{LiveAddr(align_down(area.value - kFrameSize - beyond, 16) + beyond), {}};
  out.bytes.resize(static_cast<size_t>(end - out.at));
  store_bytes(ByteSpan(out.bytes), 0, make_frame(saved, restorer, area));
  store_bytes(ByteSpan(out.bytes), static_cast<uint64_t>(area - out.at), fpstate);
  return out;
}

std::optional<WayHome> WayHome::lay(const Process& process, const std::vector<Mapping>& mappings,
                                    const SavedThread& saved, LiveAddr restorer) {
  const LiveAddr sp(saved.registers.rsp);
  auto bottom = bottom_of_stack(mappings, sp);
  const LiveAddr end(sp.value - kRedZone);
  if (!bottom || end.value > sp.value || saved.shadow_stack) {
    return std::nullopt;
  }
  const auto frame = make_home_frame(saved, end, restorer);
  if (!frame) {
    return std::nullopt;
  }
  WayHome out;
  out.frame_ = frame->at;
  out.overwritten_at_ = out.frame_ - kScratch;
  if (out.overwritten_at_.value < bottom->value + kHeadroom) {
    return std::nullopt;
  }
  out.overwritten_.resize(static_cast<size_t>(end - out.overwritten_at_));
  if (!process.memory().try_read(out.overwritten_at_, out.overwritten_)) {
    return std::nullopt;
  }
  try {
    process.memory().write(frame->at, frame->bytes);
  } catch (const Error&) {
    return std::nullopt;  // it can't be written to from outside, or the process is gone
  }
  return out;
}

void WayHome::remove(const Process& process) const {
  process.memory().write(overwritten_at_, overwritten_);
}

}  // namespace qp::proc
