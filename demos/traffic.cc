// The load of the demo, and its judge.
//
// To say "no packet was lost" one has to count exactly, and everything but the switch must be
// unable to lose one. So one process holds both ends: it opens its sockets in two network
// namespaces and numbers the packets; sender and receiver share a clock and a table of what
// arrived. The receiver's buffer holds many seconds of traffic. UDP checksums are off, because a
// switch that reads veth devices through packet sockets sees checksums that the kernel left for
// hardware to fill in.
//
//   traffic load  --from NS --to NS --address IP:PORT [--rate N] [--count N] [--flow-length N]
//   traffic probe --from NS:DEV --to NS:DEV --source MAC [--count N]
//
// `load` sends until SIGTERM or SIGINT or --count, waits for the packets under way, and prints
//   sent=N received=N lost=N duplicated=N reordered=N send_errors=N max_gap_ms=X max_delay_ms=X
// It says `ready` when the first packet has arrived. At SIGUSR1 it prints such a line for the time
// since the last one, beginning with `mark`. Each --flow-length packets come from another source
// port, so that a switch which keeps a cache of flows goes on deciding about new ones. The exit
// code is 0 if packets were sent and none was lost or duplicated.
//
// `probe` sends Ethernet frames of a local experimental type (0x88b5) whose source address is MAC
// with the last two bytes replaced by a counter, so that no frame is covered by the decision about
// another. It prints
//   sent=N received=N
// and exits with 0 whatever arrived; how many should, the caller knows.

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;

constexpr uint32_t kMagic = 0x71706c64;  // "qpld": packets of other programs are not counted
constexpr uint16_t kProbeType = 0x88b5;  // IEEE 802, local experimental EtherType 1
constexpr int kReceiveBuffer = 64 << 20;
constexpr milliseconds kDrain{500};  // silence after the last packet that means: no more will come
constexpr milliseconds kBehind{
    50};  // later than this, the schedule is moved instead of sending a burst

struct Payload {
  uint32_t magic;
  uint32_t flow;
  uint64_t sequence;
  int64_t sent_at;  // nanoseconds of Clock
};

std::atomic<bool> stop_requested{false};
std::atomic<bool> mark_requested{false};
static_assert(std::atomic<bool>::is_always_lock_free);  // they are set by signal handlers

[[noreturn]] void fail(const std::string& what) {
  throw std::system_error(errno, std::generic_category(), what);
}

class Fd {
 public:
  explicit Fd(int fd, const std::string& what) : fd_(fd) {
    if (fd_ < 0) {
      fail(what);
    }
  }
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Fd() {
    if (fd_ >= 0) {
      ::close(fd_);
    }
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

// A socket belongs for ever to the namespace of the thread that opened it; so this is all that is
// needed to have sockets in two namespaces.
void enter_namespace(const std::string& name) {
  const std::string path = "/run/netns/" + name;
  Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC), path);
  if (::setns(fd.get(), CLONE_NEWNET) != 0) {
    fail("setns " + path);
  }
}

uint64_t parse_number(std::string_view text, const std::string& what) {
  uint64_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) {
    throw std::invalid_argument(what + ": not a number: " + std::string(text));
  }
  return value;
}

std::pair<std::string, std::string> split(const std::string& text, const std::string& what) {
  const size_t colon = text.find(':');
  if (colon == std::string::npos) {
    throw std::invalid_argument(what + ": no colon in " + text);
  }
  return {text.substr(0, colon), text.substr(colon + 1)};
}

sockaddr_in parse_address(const std::string& text) {
  const auto [host, port] = split(text, "--address");
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(parse_number(port, "--address")));
  if (::inet_pton(AF_INET, host.c_str(), &address.sin_addr) != 1) {
    throw std::invalid_argument("--address: not an IPv4 address: " + host);
  }
  return address;
}

const sockaddr* as_sockaddr(const sockaddr_in& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}

void set_option(const Fd& fd, int level, int option, int value, const char* name) {
  if (::setsockopt(fd.get(), level, option, &value, sizeof value) != 0) {
    fail(name);
  }
}

double as_ms(nanoseconds duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}

class Options {
 public:
  Options(int argc, char** argv) {
    for (int i = 2; i < argc; i += 2) {
      const std::string name = argv[i];
      if (!name.starts_with("--") || i + 1 == argc) {
        throw std::invalid_argument("not an option with a value: " + name);
      }
      values_[name] = argv[i + 1];
    }
  }
  std::string text(const std::string& name) const {
    const auto found = values_.find(name);
    if (found == values_.end()) {
      throw std::invalid_argument(name + " is missing");
    }
    return found->second;
  }
  uint64_t number(const std::string& name, uint64_t otherwise) const {
    const auto found = values_.find(name);
    return found == values_.end() ? otherwise : parse_number(found->second, name);
  }

 private:
  std::map<std::string, std::string> values_;
};

// What the receiver knows. Gap: time between two arrivals. Delay: from send to arrival.
class Tally {
 public:
  void add(const Payload& packet, nanoseconds now) {
    if (packet.sequence >= seen_.size()) {
      seen_.resize(packet.sequence + 1 + 4096);
    }
    if (seen_[packet.sequence]) {
      ++duplicated_;
      return;
    }
    seen_[packet.sequence] = true;
    ++received_;
    if (packet.sequence < next_) {
      ++reordered_;
    }
    next_ = std::max(next_, packet.sequence + 1);
    if (last_) {
      raise(&max_gap_, &max_gap_since_mark_, now - *last_);
    }
    raise(&max_delay_, &max_delay_since_mark_, now - nanoseconds(packet.sent_at));
    last_ = now;
  }

  bool any() const { return received_ != 0; }
  bool clean(uint64_t sent) const { return sent != 0 && received_ == sent && duplicated_ == 0; }

  void print(uint64_t sent, uint64_t send_errors) const {
    std::printf(
        "sent=%llu received=%llu lost=%llu duplicated=%llu reordered=%llu send_errors=%llu "
        "max_gap_ms=%.3f max_delay_ms=%.3f\n",
        ull(sent), ull(received_), ull(sent - received_), ull(duplicated_), ull(reordered_),
        ull(send_errors), as_ms(max_gap_), as_ms(max_delay_));
    std::fflush(stdout);
  }

  // There is no count of lost packets here, since some are under way.
  void print_mark() {
    std::printf("mark received=%llu duplicated=%llu max_gap_ms=%.3f max_delay_ms=%.3f\n",
                ull(received_ - received_at_mark_), ull(duplicated_), as_ms(max_gap_since_mark_),
                as_ms(max_delay_since_mark_));
    std::fflush(stdout);
    received_at_mark_ = received_;
    max_gap_since_mark_ = max_delay_since_mark_ = {};
  }

 private:
  static unsigned long long ull(uint64_t value) { return value; }
  static void raise(nanoseconds* all, nanoseconds* since_mark, nanoseconds value) {
    *all = std::max(*all, value);
    *since_mark = std::max(*since_mark, value);
  }

  std::vector<bool> seen_;
  uint64_t next_ = 0;
  uint64_t received_ = 0;
  uint64_t received_at_mark_ = 0;
  uint64_t duplicated_ = 0;
  uint64_t reordered_ = 0;
  std::optional<nanoseconds> last_;
  nanoseconds max_gap_{}, max_gap_since_mark_{};
  nanoseconds max_delay_{}, max_delay_since_mark_{};
};

struct Sent {
  uint64_t packets = 0;
  uint64_t errors = 0;
};

Fd open_flow(const sockaddr_in& to) {
  Fd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket");
  set_option(fd, SOL_SOCKET, SO_NO_CHECK, 1, "SO_NO_CHECK");
  if (::connect(fd.get(), as_sockaddr(to), sizeof to) != 0) {
    fail("connect");
  }
  return fd;
}

Sent send_packets(const sockaddr_in& to, uint64_t rate, uint64_t count, uint64_t flow_length) {
  const nanoseconds interval(1'000'000'000 / rate);
  Sent sent;
  Fd fd = open_flow(to);
  uint32_t flow = 0;
  Clock::time_point due = Clock::now();
  for (uint64_t step = 0; !stop_requested && (count == 0 || sent.packets < count); ++step) {
    if (step != 0 && step % flow_length == 0) {
      fd = open_flow(to);
      ++flow;
    }
    due += interval;
    if (Clock::now() > due + kBehind) {
      due = Clock::now();
    }
    std::this_thread::sleep_until(due);
    const Payload packet{kMagic, flow, sent.packets,
                         nanoseconds(Clock::now().time_since_epoch()).count()};
    // A packet that the kernel did not take was not sent; its number is used for the next one.
    if (::send(fd.get(), &packet, sizeof packet, 0) == static_cast<ssize_t>(sizeof packet)) {
      ++sent.packets;
    } else {
      ++sent.errors;
    }
  }
  return sent;
}

int run_load(const Options& options) {
  const sockaddr_in address = parse_address(options.text("--address"));
  const uint64_t rate = std::clamp<uint64_t>(options.number("--rate", 2000), 1, 1'000'000);
  const uint64_t count = options.number("--count", 0);
  const uint64_t flow_length = std::max<uint64_t>(options.number("--flow-length", 50), 1);

  enter_namespace(options.text("--to"));
  Fd receiver(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket");
  set_option(receiver, SOL_SOCKET, SO_RCVBUFFORCE, kReceiveBuffer, "SO_RCVBUFFORCE");
  set_option(receiver, SOL_SOCKET, SO_NO_CHECK, 1, "SO_NO_CHECK");
  if (::bind(receiver.get(), as_sockaddr(address), sizeof address) != 0) {
    fail("bind " + options.text("--address"));
  }
  enter_namespace(options.text("--from"));

  struct sigaction action {};
  action.sa_handler = [](int signal) {
    (signal == SIGUSR1 ? mark_requested : stop_requested) = true;
  };
  for (int signal : {SIGTERM, SIGINT, SIGUSR1}) {
    ::sigaction(signal, &action, nullptr);
  }

  std::atomic<bool> sending{true};
  Sent sent;
  std::string sender_failure;
  std::jthread sender([&] {
    try {
      sent = send_packets(address, rate, count, flow_length);
    } catch (const std::exception& e) {
      sender_failure = e.what();
    }
    sending = false;
  });

  Tally tally;
  Clock::time_point last_arrival = Clock::now();
  Clock::time_point answer_due = last_arrival;
  while (sending || Clock::now() - last_arrival < kDrain) {
    if (mark_requested.exchange(false)) {
      tally.print_mark();
    }
    pollfd ready{receiver.get(), POLLIN, 0};
    if (::poll(&ready, 1, 20) <= 0) {
      continue;
    }
    Payload packet{};
    sockaddr_in from{};
    socklen_t from_size = sizeof from;
    const ssize_t size = ::recvfrom(receiver.get(), &packet, sizeof packet, MSG_DONTWAIT,
                                    reinterpret_cast<sockaddr*>(&from), &from_size);
    if (size != static_cast<ssize_t>(sizeof packet) || packet.magic != kMagic) {
      continue;
    }
    last_arrival = Clock::now();
    const bool first = !tally.any();
    tally.add(packet, last_arrival.time_since_epoch());
    if (first) {
      std::printf("ready\n");
      std::fflush(stdout);
    }
    // A switch learns where the receiver is only from what the receiver sends.
    if (last_arrival >= answer_due) {
      answer_due = last_arrival + milliseconds(1000);
      (void)::sendto(receiver.get(), "", 1, MSG_DONTWAIT, as_sockaddr(from), sizeof from);
    }
  }
  sender.join();
  if (!sender_failure.empty()) {
    throw std::runtime_error("sender: " + sender_failure);
  }
  tally.print(sent.packets, sent.errors);
  return tally.clean(sent.packets) ? 0 : 1;
}

Fd open_device(const std::string& name_space, const std::string& device) {
  enter_namespace(name_space);
  const unsigned index = ::if_nametoindex(device.c_str());
  if (index == 0) {
    fail(device + " in " + name_space);
  }
  Fd fd(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(kProbeType)), "packet socket");
  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  address.sll_protocol = htons(kProbeType);
  address.sll_ifindex = static_cast<int>(index);
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    fail("bind to " + device);
  }
  return fd;
}

int run_probe(const Options& options) {
  const auto [from_namespace, from_device] = split(options.text("--from"), "--from");
  const auto [to_namespace, to_device] = split(options.text("--to"), "--to");
  const uint64_t count = std::min<uint64_t>(options.number("--count", 20), 60000);

  std::array<unsigned char, 60> frame{};  // the shortest that Ethernet allows, without its checksum
  std::fill_n(frame.begin(), 6, 0xff);    // to everyone
  const std::string source = options.text("--source");
  if (std::sscanf(source.c_str(), "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &frame[6], &frame[7], &frame[8],
                  &frame[9], &frame[10], &frame[11]) != 6) {
    throw std::invalid_argument("--source: not a MAC address: " + source);
  }
  frame[12] = kProbeType >> 8;
  frame[13] = kProbeType & 0xff;
  const uint32_t run = static_cast<uint32_t>(::getpid());
  std::memcpy(&frame[14], &kMagic, 4);
  std::memcpy(&frame[18], &run, 4);

  const Fd receiver = open_device(to_namespace, to_device);
  const Fd sender = open_device(from_namespace, from_device);
  for (uint64_t i = 0; i < count; ++i) {
    frame[10] = static_cast<unsigned char>(i >> 8);
    frame[11] = static_cast<unsigned char>(i);
    if (::send(sender.get(), frame.data(), frame.size(), 0) != static_cast<ssize_t>(frame.size())) {
      fail("send on " + from_device);
    }
  }

  uint64_t received = 0;
  pollfd ready{receiver.get(), POLLIN, 0};
  while (received<count&& ::poll(&ready, 1, static_cast<int>(kDrain.count()))> 0) {
    std::array<unsigned char, 2048> got{};
    const ssize_t size = ::recv(receiver.get(), got.data(), got.size(), MSG_DONTWAIT);
    if (size >= 22 && std::equal(&got[12], &got[22], &frame[12])) {
      ++received;
    }
  }
  std::printf("sent=%llu received=%llu\n", static_cast<unsigned long long>(count),
              static_cast<unsigned long long>(received));
  return 0;
}

}  // namespace

int main(int argc, char** argv) try {
  const std::string_view command = argc > 1 ? argv[1] : "";
  const Options options(argc, argv);
  if (command == "load") {
    return run_load(options);
  }
  if (command == "probe") {
    return run_probe(options);
  }
  throw std::invalid_argument("usage: traffic load|probe OPTIONS");
} catch (const std::invalid_argument& e) {
  std::fprintf(stderr, "traffic: %s\n", e.what());
  return 2;
} catch (const std::exception& e) {
  std::fprintf(stderr, "traffic: %s\n", e.what());
  return 3;
}
