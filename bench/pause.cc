// How long does a process stand still when a patch is applied or reverted?
//
// The victim (pause_victim.c) measures it from inside: a spinning thread records the largest gap
// between two looks at the clock. Around it sleep 0, 64 or 1000 further threads. Each operation is
// done `rounds` times:
//   idle    nothing: the machine's own noise over the same time
//   floor   plain SEIZE, INTERRUPT, wait, GETREGS and DETACH of all threads: what any tracer must do
//           at least. Written here with bare system calls, at the same
//           real-time priority as qpatch, so that only qpatch's own work makes the difference.
//   apply / revert   the qpatch program, a process each time; wall time is from fork to exit
// Times on shared machines are compared within one run, as ratios to the floor.
//
// Usage: pause QPATCH VICTIM_SOURCE [rounds]      prints a Markdown table

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

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

namespace {

struct Shared {
  std::atomic<uint64_t> largest_gap_ns, answer, reset, stop, looks;
};

[[noreturn]] void die(const std::string& what) {
  std::cerr << "pause: " << what << '\n';
  std::exit(1);
}

// Runs a program; its output is thrown away unless it fails.
int run(const std::vector<std::string>& argv, const fs::path& log) {
  std::vector<char*> args;
  for (const std::string& a : argv) {
    args.push_back(const_cast<char*>(a.c_str()));
  }
  args.push_back(nullptr);
  pid_t child = fork();
  if (child == 0) {
    int fd = open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    dup2(fd, 1);
    dup2(fd, 2);
    execvp(args[0], args.data());
    _exit(127);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

void must_run(const std::vector<std::string>& argv, const fs::path& log) {
  if (int code = run(argv, log); code != 0) {
    std::ifstream in(log);
    std::cerr << in.rdbuf();
    die(fmt::format("{} {} exits with {}", argv[0], argv.size() > 1 ? argv[1] : "", code));
  }
}

struct Victim {
  pid_t pid = 0;
  Shared* shared = nullptr;

  Victim(const fs::path& dir, int sleepers) {
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
      dup2(out[1], 1);
      execl((dir / "victim").c_str(), "victim", std::to_string(sleepers).c_str(), file.c_str(),
            nullptr);
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
      std::this_thread::yield();
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
  sched_param high{.sched_priority = 1};
  sched_setscheduler(0, SCHED_FIFO, &high);
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
  sched_param normal{};
  sched_setscheduler(0, SCHED_OTHER, &normal);
}

// The victim has looked at the clock since it was let go, so the gap is recorded.
void await_look(const Shared& shared) {
  uint64_t now = shared.looks;
  while (shared.looks < now + 2) {
    std::this_thread::yield();
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

double quantile(std::vector<double> v, double q) {
  std::sort(v.begin(), v.end());
  return v[static_cast<size_t>(q * static_cast<double>(v.size() - 1))];
}

void build_patch(const fs::path& dir, const std::string& qpatch, const fs::path& source) {
  fs::copy_file(source, dir / "victim.c");
  std::ofstream(dir / "compile_commands.json")
      << fmt::format(R"([{{"directory": "{0}", "file": "victim.c",
                          "arguments": ["gcc", "-O2", "-g", "-pthread", "-c", "victim.c", "-o", "victim.o"]}}])",
                     dir.string());
  std::string log = (dir / "log").string();
  must_run({"gcc", "-O2", "-g", "-pthread", (dir / "victim.c").string(), "-o",
            (dir / "victim").string(), "-Wl,--build-id"},
           log);
  std::ifstream in(dir / "victim.c");
  std::string text((std::istreambuf_iterator<char>(in)), {});
  fs::create_directories(dir / "a");
  fs::create_directories(dir / "b");
  std::ofstream(dir / "a/victim.c") << text;
  text.replace(text.find("return 1;"), 9, "return 9;");
  std::ofstream(dir / "b/victim.c") << text;
  run({"sh", "-c", fmt::format("cd {} && diff -u a/victim.c b/victim.c > fix.patch", dir.string())},
      log);
  must_run({qpatch, "build", "--compdb", dir.string(), "--patch", (dir / "fix.patch").string(),
            "--target", (dir / "victim").string(), "-o", (dir / "fix.qp").string()},
           log);
}

std::string patch_id(const fs::path& dir, const std::string& qpatch) {
  must_run({qpatch, "info", (dir / "fix.qp").string(), "--json"}, dir / "log");
  std::ifstream in(dir / "log");
  std::string text((std::istreambuf_iterator<char>(in)), {});
  size_t at = text.find("\"id\"");
  size_t quote = text.find('"', text.find(':', at));
  return text.substr(quote + 1, text.find('"', quote + 1) - quote - 1);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    die("usage: pause QPATCH VICTIM_SOURCE [rounds]");
  }
  std::string qpatch = fs::absolute(argv[1]);
  int rounds = argc > 3 ? std::atoi(argv[3]) : 50;
  char pattern[] = "/tmp/qpatch-pause-XXXXXX";
  fs::path dir = mkdtemp(pattern);
  build_patch(dir, qpatch, fs::absolute(argv[2]));
  std::string id = patch_id(dir, qpatch);
  std::string log = (dir / "log").string();

  std::cout << "| threads | what | gap median ms | gap p90 ms | gap max ms | median / floor | "
               "wall median ms |\n|---|---|---|---|---|---|---|\n";
  for (int sleepers : {0, 64, 1000}) {
    Victim victim(dir, sleepers);
    std::string pid = std::to_string(victim.pid);
    Series idle, floor, apply, revert;
    for (int i = 0; i < rounds; ++i) {
      measure(victim, idle, [] { std::this_thread::sleep_for(std::chrono::milliseconds(20)); });
      measure(victim, floor, [&] { floor_stop(victim.pid); });
      measure(victim, apply, [&] {
        must_run({qpatch, "apply", (dir / "fix.qp").string(), "--pid", pid}, log);
      });
      if (victim.reset() != 9) {
        die("the patch is applied and has no effect");
      }
      measure(victim, revert, [&] { must_run({qpatch, "revert", id, "--pid", pid}, log); });
      if (victim.reset() != 1) {
        die("the patch is reverted and still has effect");
      }
    }
    double base = quantile(floor.gap_ms, 0.5);
    auto row = [&](const char* name, const Series& s) {
      std::cout << fmt::format("| {} | {} | {:.3f} | {:.3f} | {:.3f} | {:.2f} | {:.1f} |\n",
                               sleepers + 1, name, quantile(s.gap_ms, 0.5), quantile(s.gap_ms, 0.9),
                               quantile(s.gap_ms, 1), quantile(s.gap_ms, 0.5) / base,
                               quantile(s.wall_ms, 0.5));
    };
    row("idle", idle);
    row("floor", floor);
    row("apply", apply);
    row("revert", revert);
  }
  fs::remove_all(dir);
}
