// Clients of bench/latency: connections on loopback, each with one request on its way at a time.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace bench {

struct Measured {
  std::vector<uint32_t> latencies_ns;  // of every request; 4 s and more count as 4 s
  uint64_t wrong = 0;                  // answers that neither the old nor the new code gives
  uint64_t lost = 0;                   // connections that ended
  double seconds = 0;

  void add(const Measured& other);
  double per_second() const { return static_cast<double>(latencies_ns.size()) / seconds; }
};

// A thread that keeps `connections` busy, from its construction to stop().
class Load {
 public:
  Load(uint16_t port, int connections);
  Load(const Load&) = delete;
  Load& operator=(const Load&) = delete;
  ~Load();
  // What was measured since the last call, or since the start.
  Measured take();

 private:
  struct Connection;
  void work();
  bool ask(Connection& connection);
  void receive(Connection& connection);

  int epoll_;
  std::vector<Connection> connections_;
  Measured now_;
  std::atomic<Measured*> wanted_ = nullptr;
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

}  // namespace bench
