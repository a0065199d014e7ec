// What do the clients of a server notice while it is patched once a second?
//
// A server (latency_server.c) with two threads answers 32 connections on loopback, which keep it busy
// all the time. In turns of some seconds it is left alone, and patched and reverted once a second, so
// that whatever else the machine does is in both. Every answer is checked. The processors are shared by
// server, clients and qpatch: what qpatch costs is in the number of requests.
//
// Usage: latency QPATCH SERVER_SOURCE [seconds of each kind] [SVG]      prints a Markdown table

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <iostream>

#include <fmt/format.h>

#include "latency_chart.h"
#include "latency_load.h"
#include "patched_program.h"

using bench::die;
using Clock = std::chrono::steady_clock;

namespace {

constexpr int kConnections = 32;
constexpr int kTurn = 5;  // seconds

class Server {
 public:
  explicit Server(const std::filesystem::path& program) {
    int in[2], out[2];
    if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0) {
      die("pipe");
    }
    pid_ = fork();
    if (pid_ == 0) {
      dup2(in[0], 0);
      dup2(out[1], 1);
      execl(program.c_str(), "server", "2", nullptr);
      _exit(127);
    }
    close(in[0]);
    close(out[1]);
    input_ = in[1];
    char text[16] = {};
    if (read(out[0], text, sizeof text - 1) <= 0) {
      die("the server does not start");
    }
    close(out[0]);
    port_ = static_cast<uint16_t>(std::atoi(text));
  }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  ~Server() {
    close(input_);
    waitpid(pid_, nullptr, 0);
  }
  uint16_t port() const { return port_; }
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = 0;
  int input_ = -1;
  uint16_t port_ = 0;
};

// One apply and one revert a second, half a second apart.
int patch_for(const bench::PatchedProgram& program, pid_t pid, std::chrono::seconds time) {
  const std::vector<std::string> selection = {"--pid", std::to_string(pid)};
  const auto start = Clock::now();
  int patched = 0;
  for (auto next = start; next < start + time; next += std::chrono::seconds(1), ++patched) {
    program.apply(selection);
    std::this_thread::sleep_until(next + std::chrono::milliseconds(500));
    program.revert(selection);
    std::this_thread::sleep_until(next + std::chrono::seconds(1));
  }
  return patched;
}

void print_row(const char* name, const bench::Measured& m, const bench::Curve& curve) {
  auto at = [&](double q) {
    const auto last = static_cast<double>(curve.sorted_ns.size() - 1);
    return curve.sorted_ns[static_cast<size_t>(q * last)] / 1e6;
  };
  std::cout << fmt::format("| {} | {:.0f} | {:.3f} | {:.3f} | {:.3f} | {:.3f} | {} | {} |\n", name,
                           m.per_second(), at(0.5), at(0.99), at(0.999), at(1), m.wrong, m.lost);
}

bench::Curve curve_of(const bench::Measured& m, std::string name, std::string colour) {
  bench::Curve curve{std::move(name), std::move(colour), m.latencies_ns};
  if (curve.sorted_ns.empty()) {
    die("no request was answered");
  }
  std::sort(curve.sorted_ns.begin(), curve.sorted_ns.end());
  return curve;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    die("usage: latency QPATCH SERVER_SOURCE [seconds] [SVG]");
  }
  const int seconds = argc > 3 ? std::atoi(argv[3]) : 60;
  const bench::Folder folder;
  const bench::PatchedProgram program(folder.path(), argv[1], argv[2], "sum * 2 + 0",
                                      "sum * 2 + 1");
  const Server server(program.program());
  bench::Load load(server.port(), kConnections);
  bench::Measured alone, patched;
  int patches = 0;
  load.take();  // the first requests are slow
  for (int done = 0; done < seconds; done += kTurn) {
    std::this_thread::sleep_for(std::chrono::seconds(kTurn));
    alone.add(load.take());
    patches += patch_for(program, server.pid(), std::chrono::seconds(kTurn));
    patched.add(load.take());
  }
  const bench::Curve without = curve_of(alone, "left alone", "#1f77b4"),
                     with = curve_of(patched, "patched and reverted every second", "#d62728");
  std::cout << "| server | requests/s | p50 ms | p99 ms | p99.9 ms | max ms | wrong | lost |\n"
               "|---|---|---|---|---|---|---|---|\n";
  print_row("left alone", alone, without);
  print_row("patched every second", patched, with);
  std::cout << fmt::format("\n{} times applied and reverted; requests: {:+.2f} %\n", patches,
                           (patched.per_second() / alone.per_second() - 1) * 100);
  if (argc > 4) {
    std::ofstream(argv[4]) << bench::latency_chart({without, with});
  }
  return alone.wrong + alone.lost + patched.wrong + patched.lost == 0 ? 0 : 1;
}
