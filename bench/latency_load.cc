// A closed loop: each connection asks again as soon as it has its answer, so that a server that stands
// still is asked less often. That flatters a pause in the lower percentiles; the largest latency and
// the number of requests show it.

#include "latency_load.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>

#include "patched_program.h"

namespace bench {
namespace {

constexpr size_t kMessage = 64;
constexpr uint64_t kTable = 4096;
constexpr uint64_t kLongest = 4'000'000'000;

uint64_t now_ns() {
  return static_cast<uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
}

// What latency_server.c answers, but for the last bit, which the patch sets.
uint64_t expected(uint64_t key) {
  uint64_t sum = 0;
  for (uint64_t i = 0; i < 16; ++i) {
    sum += (key + i) % kTable;
  }
  return sum * 2;
}

}  // namespace

struct Load::Connection {
  int fd = -1;
  uint64_t key = 0, asked_at = 0;
  size_t received = 0;
  unsigned char message[kMessage] = {};
};

void Measured::add(const Measured& other) {
  latencies_ns.insert(latencies_ns.end(), other.latencies_ns.begin(), other.latencies_ns.end());
  wrong += other.wrong;
  lost += other.lost;
  seconds += other.seconds;
}

Load::Load(uint16_t port, int connections)
    : epoll_(epoll_create1(EPOLL_CLOEXEC)), connections_(static_cast<size_t>(connections)) {
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_port = htons(port);
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  for (Connection& c : connections_) {
    c.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(c.fd, reinterpret_cast<sockaddr*>(&at), sizeof at) != 0) {
      die("the server can't be reached");
    }
    const int on = 1;
    setsockopt(c.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.ptr = &c;
    epoll_ctl(epoll_, EPOLL_CTL_ADD, c.fd, &event);
  }
  thread_ = std::thread([this] { work(); });
}

Load::~Load() {
  stop_ = true;
  thread_.join();
  for (const Connection& c : connections_) {
    close(c.fd);
  }
  close(epoll_);
}

Measured Load::take() {
  Measured out;
  wanted_ = &out;
  while (wanted_ != nullptr) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return out;
}

bool Load::ask(Connection& c) {
  c.key = c.key * 6364136223846793005u + 1442695040888963407u;
  std::memcpy(c.message, &c.key, sizeof c.key);
  c.received = 0;
  c.asked_at = now_ns();
  return send(c.fd, c.message, kMessage, MSG_NOSIGNAL) == static_cast<ssize_t>(kMessage);
}

void Load::receive(Connection& c) {
  const ssize_t got = recv(c.fd, c.message + c.received, kMessage - c.received, 0);
  if (got <= 0) {
    now_.lost += 1;
    epoll_ctl(epoll_, EPOLL_CTL_DEL, c.fd, nullptr);
    return;
  }
  c.received += static_cast<size_t>(got);
  if (c.received < kMessage) {
    return;
  }
  now_.latencies_ns.push_back(static_cast<uint32_t>(std::min(now_ns() - c.asked_at, kLongest)));
  uint64_t answer = 0;
  std::memcpy(&answer, c.message, sizeof answer);
  now_.wrong += (answer & ~uint64_t{1}) != expected(c.key) ? 1 : 0;
  if (!ask(c)) {
    now_.lost += 1;
  }
}

void Load::work() {
  for (Connection& c : connections_) {
    c.key = static_cast<uint64_t>(c.fd);
    if (!ask(c)) {
      die("the server takes no request");
    }
  }
  uint64_t since = now_ns();
  while (!stop_) {
    epoll_event events[64];
    const int count = epoll_wait(epoll_, events, 64, 10);
    for (int i = 0; i < count; ++i) {
      receive(*static_cast<Connection*>(events[i].data.ptr));
    }
    if (Measured* out = wanted_) {
      now_.seconds = static_cast<double>(now_ns() - since) / 1e9;
      *out = std::move(now_);
      now_ = {};
      now_.latencies_ns.reserve(out->latencies_ns.size() * 2);
      since = now_ns();
      wanted_ = nullptr;
    }
  }
}

}  // namespace bench
