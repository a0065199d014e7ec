// How long does a process stand still when a patch is applied or reverted?
//
// The victim (pause_victim.c) measures it from inside: a spinning thread records the largest gap
// between two looks at the clock. Around it sleep 0 to 9999 further threads; or 63 compute, and then
// the gap is mostly the scheduler's. Each operation is done `rounds` times:
//   idle    nothing: the machine's own noise over the same time
//   floor   plain SEIZE, INTERRUPT, wait, GETREGS and DETACH of all threads: what any tracer must do
//           at least. Written here with bare system calls, at the same
//           real-time priority as qpatch, so that only qpatch's own work makes the difference.
//   apply / revert   the qpatch program, a process each time; wall time is from fork to exit
// The driver has a real-time priority, so that it is not its own wait for a processor that is measured.
// Times on shared machines are compared within one run, as ratios to the floor.
//
// Usage: pause QPATCH VICTIM_SOURCE [rounds [threads]]      prints a Markdown table
// `threads`: only the row of so many (64: the computing ones too).

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

#include <fmt/format.h>

#include "patched_program.h"

using bench::die;
using bench::quantile;
namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

namespace {

struct Shared {
  std::atomic<uint64_t> largest_gap_ns, answer, reset, stop, looks;
};

struct Victim {
  pid_t pid = 0;
  Shared* shared = nullptr;

  Victim(const fs::path& dir, int sleeping, int busy) {
    fs::path file = dir / "shared";
    std::ofstream(file) << std::string(4096, '\0');
    int fd = open(file.c_str(), O_RDWR | O_CLOEXEC);
    shared = static_cast<Shared*>(
        mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    close(fd);
    int out[2];
    if (pipe2(out, O_CLOEXEC) != 0) {
      die("pipe");
    }
    pid = fork();
    if (pid == 0) {
      bench::be_ordinary();
      dup2(out[1], 1);
      execl((dir / "victim").c_str(), "victim", std::to_string(sleeping).c_str(),
            std::to_string(busy).c_str(), file.c_str(), nullptr);
      _exit(127);
    }
    close(out[1]);
    char ready[8] = {};
    if (read(out[0], ready, sizeof ready) < 5) {
      die("the victim does not start");
    }
    close(out[0]);
  }
  Victim(const Victim&) = delete;
  Victim& operator=(const Victim&) = delete;
  ~Victim() {
    shared->stop = 1;
    waitpid(pid, nullptr, 0);
    munmap(shared, sizeof(Shared));
  }
  uint64_t reset() {
    shared->reset = 1;
    while (shared->reset != 0) {
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
    return shared->answer;
  }
};

std::vector<pid_t> threads_of(pid_t pid) {
  std::vector<pid_t> tids;
  for (const auto& e : fs::directory_iterator(fmt::format("/proc/{}/task", pid))) {
    tids.push_back(std::stoi(e.path().filename()));
  }
  return tids;
}

// What any tracer must do at least.
void floor_stop(pid_t pid) {
  std::vector<pid_t> tids = threads_of(pid);
  for (pid_t t : tids) {
    if (ptrace(PTRACE_SEIZE, t, 0, 0) != 0) {
      die("PTRACE_SEIZE");
    }
  }
  for (pid_t t : tids) {
    ptrace(PTRACE_INTERRUPT, t, 0, 0);
  }
  user_regs_struct registers{};
  for (pid_t t : tids) {
    waitpid(t, nullptr, __WALL);
    ptrace(PTRACE_GETREGS, t, 0, &registers);
  }
  for (pid_t t : tids) {
    ptrace(PTRACE_DETACH, t, 0, 0);
  }
}

// The victim has looked at the clock since it was let go, so the gap is recorded.
void await_look(const Shared& shared) {
  uint64_t now = shared.looks;
  while (shared.looks < now + 2) {
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
}

struct Series {
  std::vector<double> gap_ms, wall_ms;
};

void measure(Victim& victim, Series& series, const std::function<void()>& work) {
  victim.reset();
  auto start = Clock::now();
  work();
  series.wall_ms.push_back(std::chrono::duration<double, std::milli>(Clock::now() - start).count());
  await_look(*victim.shared);
  series.gap_ms.push_back(static_cast<double>(victim.shared->largest_gap_ns.load()) / 1e6);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    die("usage: pause QPATCH VICTIM_SOURCE [rounds [threads]]");
  }
  const int rounds = argc > 3 ? std::atoi(argv[3]) : 50;
  bench::be_first();
  const int only = argc > 4 ? std::atoi(argv[4]) : 0;
  const bench::Folder folder;
  const bench::PatchedProgram program(folder.path(), argv[1], argv[2], "return 1;", "return 9;");

  std::cout << "| threads | what | gap median ms | gap p90 ms | gap max ms | median / floor | "
               "wall median ms |\n|---|---|---|---|---|---|---|\n";
  struct Crowd {
    int sleeping, busy, rounds;
  };
  for (const Crowd crowd :
       {Crowd{0, 0, rounds}, Crowd{15, 0, rounds}, Crowd{63, 0, rounds}, Crowd{255, 0, rounds},
        Crowd{999, 0, rounds}, Crowd{9999, 0, std::max(1, rounds / 5)}, Crowd{0, 63, rounds}}) {
    if (only != 0 && only != crowd.sleeping + crowd.busy + 1) {
      continue;
    }
    Victim victim(folder.path(), crowd.sleeping, crowd.busy);
    const std::vector<std::string> pid = {"--pid", std::to_string(victim.pid)};
    Series idle, floor, apply, revert;
    for (int i = 0; i < crowd.rounds; ++i) {
      measure(victim, idle, [] { std::this_thread::sleep_for(std::chrono::milliseconds(20)); });
      measure(victim, floor, [&] { floor_stop(victim.pid); });
      measure(victim, apply, [&] { program.apply(pid); });
      if (victim.reset() != 9) {
        die("the patch is applied and has no effect");
      }
      measure(victim, revert, [&] { program.revert(pid); });
      if (victim.reset() != 1) {
        die("the patch is reverted and still has effect");
      }
    }
    const double base = quantile(floor.gap_ms, 0.5);
    auto row = [&](const char* name, const Series& s) {
      std::cout << fmt::format("| {}{} | {} | {:.3f} | {:.3f} | {:.3f} | {:.2f} | {:.1f} |\n",
                               crowd.sleeping + crowd.busy + 1, crowd.busy != 0 ? " busy" : "",
                               name, quantile(s.gap_ms, 0.5), quantile(s.gap_ms, 0.9),
                               quantile(s.gap_ms, 1), quantile(s.gap_ms, 0.5) / base,
                               quantile(s.wall_ms, 0.5))
                << std::flush;
    };
    row("idle", idle);
    row("floor", floor);
    row("apply", apply);
    row("revert", revert);
  }
}
