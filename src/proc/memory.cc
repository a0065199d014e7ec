// The memory of a process, read and written from outside.
//
// Reading: process_vm_readv(2) takes many ranges in one call, but goes by number, and by the number
// of a thread that lives; it stops short at the first page that it can't have, and it refuses pages
// that the process itself can't read (execute-only text). /proc/PID/mem, opened once, can read
// those and holds on to the address space itself: after an exec it reads nothing rather than the
// memory of the next program. So the first is the fast way, and the second has the last word about
// where a gap is and whether there is something to write to.
//
// A number is given to somebody else when its owner is gone. That of the leader stays the process's as
// long as the process lives, so what was read by it counts if the address space is still in use
// afterwards. A thread's number says nothing of the kind: where the leader is dead, only mem is read.
//
// Writing: text is r-x, which process_vm_writev honours and /proc/PID/mem overrides, by breaking
// the page off the file (copy on write) as a debugger's breakpoint does. Newer kernels can demand
// that the writer is the attached tracer (proc_mem.force_override=ptrace, Linux v6.12), so the
// caller writes while attached; where even that is forbidden, PTRACE_POKEDATA is the same write in
// words of 8 bytes. Neither can write shared mappings without write permission: an error.

#include <fcntl.h>
#include <limits.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>

#include <fmt/format.h>

#include "base/error.h"
#include "proc/process.h"
#include "proc/procfs.h"

namespace qp::proc {
namespace {

std::string place(LiveAddr at, pid_t pid) {
  return fmt::format("{:#x} of process {}", at.value, pid);
}

// Through any thread of the process that we have stopped.
void poke(pid_t pid, LiveAddr at, ByteView bytes) {
  for (pid_t tid : list_tasks(pid)) {
    errno = 0;
    ::ptrace(PTRACE_PEEKDATA, tid, at.value & ~uint64_t{7}, nullptr);
    if (errno == ESRCH) {
      continue;  // not ours, or not stopped
    }
    while (!bytes.empty()) {
      uint64_t word_at = at.value & ~uint64_t{7};
      uint64_t inside = at.value - word_at;
      size_t n = std::min<size_t>(8 - inside, bytes.size());
      errno = 0;
      long word = ::ptrace(PTRACE_PEEKDATA, tid, word_at, nullptr);
      if (errno != 0) {
        throw system_error("reading", place(at, pid), errno);
      }
      std::memcpy(reinterpret_cast<std::byte*>(&word) + inside, bytes.data(), n);
      if (::ptrace(PTRACE_POKEDATA, tid, word_at, word) != 0) {
        throw system_error("writing", place(at, pid), errno);
      }
      at += n;
      bytes = bytes.subspan(n);
    }
    return;
  }
  throw Error("system", "writing", place(at, pid), "no thread of it is attached and stopped");
}

}  // namespace

Memory::Memory(pid_t pid) : pid_(find_live_task(pid).value_or(pid)), by_number_(pid_ == pid) {
  mem_ = open_file(fmt::format("/proc/{}/task/{}/mem", pid, pid_), O_RDWR);
}

size_t Memory::read_some(LiveAddr at, ByteSpan out) const {
  iovec local{out.data(), out.size()};
  iovec remote{std::bit_cast<void*>(at.value), out.size()};
  const ssize_t first = by_number_ ? ::process_vm_readv(pid_, &local, 1, &remote, 1, 0) : 0;
  size_t done = static_cast<size_t>(std::max<ssize_t>(first, 0));
  if (done != 0 && gone()) {
    return 0;
  }
  while (done < out.size()) {
    ssize_t n = ::pread(mem_.get(), out.data() + done, out.size() - done,
                        static_cast<off_t>(at.value + done));
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n <= 0) {
      break;
    }
    done += static_cast<size_t>(n);
  }
  return done;
}

bool Memory::read_pieces(const std::vector<Piece>& pieces) const {
  // One call takes IOV_MAX ranges. 256 at once is nearly as good and fits our stack.
  constexpr size_t kAtOnce = 256;
  static_assert(kAtOnce <= IOV_MAX);
  std::array<iovec, kAtOnce> local, remote;
  for (size_t from = 0; from < pieces.size(); from += kAtOnce) {
    size_t count = std::min(kAtOnce, pieces.size() - from);
    size_t want = 0;
    for (size_t i = 0; i < count; ++i) {
      const Piece& p = pieces[from + i];
      local[i] = {p.out.data(), p.out.size()};
      remote[i] = {std::bit_cast<void*>(p.at.value), p.out.size()};
      want += p.out.size();
    }
    const ssize_t got =
        by_number_ ? ::process_vm_readv(pid_, local.data(), count, remote.data(), count, 0) : -1;
    if (got >= 0 && static_cast<size_t>(got) == want && !gone()) {
      continue;
    }
    for (size_t i = 0; i < count; ++i) {
      if (!try_read(pieces[from + i].at, pieces[from + i].out)) {
        return false;
      }
    }
  }
  return true;
}

// An open mem file keeps the memory's description, not its users: when the last is gone, there is
// nothing to be read at any address (Linux fs/proc/base.c: mem_rw, mmget_not_zero).
bool Memory::gone() const {
  std::byte probe;
  ssize_t n;
  do {
    n = ::pread(mem_.get(), &probe, 1, 0x1000);
  } while (n < 0 && errno == EINTR);
  return n == 0;
}

void Memory::write(LiveAddr at, ByteView bytes) const {
  while (!bytes.empty()) {
    ssize_t n = ::pwrite(mem_.get(), bytes.data(), bytes.size(), static_cast<off_t>(at.value));
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n <= 0) {
      int why = n < 0 ? errno : EIO;
      std::byte probe;
      if (n < 0 && ::pread(mem_.get(), &probe, 1, static_cast<off_t>(at.value)) == 1) {
        poke(pid_, at, bytes);
        return;
      }
      throw system_error("writing", place(at, pid_), why);
    }
    at += static_cast<size_t>(n);
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
}

}  // namespace qp::proc
