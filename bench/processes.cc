// How long do many processes take, each?
//
// 1, 10, 100 and 1000 processes of one program sleep; one `qpatch apply` takes all of them, and one
// `qpatch revert`. The table has the wall time, its share for each process, and what the image costs
// each: pages of its own, and pages that all of them share.
//
// Usage: processes QPATCH VICTIM_SOURCE      prints a Markdown table

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iostream>

#include <fmt/format.h>

#include "patched_program.h"

using bench::die;
namespace fs = std::filesystem;

namespace {

// Processes that wait for an answer which does not come.
class Crowd {
 public:
  Crowd(const fs::path& program, const fs::path& shared, int count) {
    std::ofstream(shared) << std::string(4096, '\0');
    for (int i = 0; i < count; ++i) {
      int out[2];
      if (pipe2(out, O_CLOEXEC) != 0) {
        die("pipe");
      }
      const pid_t pid = fork();
      if (pid == 0) {
        dup2(out[1], 1);
        execl(program.c_str(), "victim", "0", "0", shared.c_str(), "asleep", nullptr);
        _exit(127);
      }
      close(out[1]);
      char ready[8] = {};
      if (read(out[0], ready, sizeof ready) < 5) {
        die("a process does not start");
      }
      close(out[0]);
      pids_.push_back(pid);
    }
  }
  Crowd(const Crowd&) = delete;
  Crowd& operator=(const Crowd&) = delete;
  ~Crowd() {
    for (const pid_t pid : pids_) {
      kill(pid, SIGKILL);
      waitpid(pid, nullptr, 0);
    }
  }
  std::vector<std::string> selection() const {
    std::vector<std::string> out;
    for (const pid_t pid : pids_) {
      out.insert(out.end(), {"--pid", std::to_string(pid)});
    }
    return out;
  }
  pid_t last() const { return pids_.back(); }

 private:
  std::vector<pid_t> pids_;
};

double ms_of(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
      .count();
}

struct ImageMemory {
  long own = 0, shared = 0;  // KiB that are resident
};

ImageMemory image_memory(pid_t pid) {
  ImageMemory memory;
  std::ifstream in(fmt::format("/proc/{}/smaps", pid));
  bool of_image = false;
  for (std::string line; std::getline(in, line);) {
    long number = 0;
    if (line.find('-') < line.find(' ')) {
      of_image = line.find("qpatch") != std::string::npos && line.find(".qpi") != std::string::npos;
    } else if (of_image && std::sscanf(line.c_str(), "Private_Dirty: %ld", &number) == 1) {
      memory.own += number;
    } else if (of_image && (std::sscanf(line.c_str(), "Shared_Clean: %ld", &number) == 1 ||
                            std::sscanf(line.c_str(), "Private_Clean: %ld", &number) == 1)) {
      memory.shared += number;
    }
  }
  return memory;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    die("usage: processes QPATCH VICTIM_SOURCE");
  }
  const bench::Folder folder;
  const bench::PatchedProgram program(folder.path(), argv[1], argv[2], "return 1;", "return 9;");
  std::cout << "| processes | apply ms | each | revert ms | each | own KiB | file KiB |\n"
               "|---|---|---|---|---|---|---|\n";
  for (const int count : {1, 10, 100, 1000}) {
    const Crowd crowd(program.program(), folder.path() / "shared", count);
    const auto selection = crowd.selection();
    const double apply = ms_of([&] { program.apply(selection); });
    const ImageMemory memory = image_memory(crowd.last());
    const double revert = ms_of([&] { program.revert(selection); });
    std::cout << fmt::format("| {} | {:.1f} | {:.2f} | {:.1f} | {:.2f} | {} | {} |\n", count, apply,
                             apply / count, revert, revert / count, memory.own, memory.shared)
              << std::flush;
  }
}
