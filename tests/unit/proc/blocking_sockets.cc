// Calls on sockets, in two kinds: without a timeout of the socket (SO_RCVTIMEO, SO_SNDTIMEO) the
// kernel restarts them, with one it answers EINTR.

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <string>

#include "blocking_calls.h"

namespace qp::test {
namespace {

struct Pair {
  int ours, theirs;
};

void set_timeouts(int fd) {
  timeval timeout{.tv_sec = 3600, .tv_usec = 0};
  ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
  ::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
}

Pair make_pair(int type, bool timed) {
  int ends[2];
  if (::socketpair(AF_UNIX, type, 0, ends) != 0) {
    std::abort();
  }
  if (timed) {
    set_timeouts(ends[1]);
  }
  return {ends[0], ends[1]};
}

std::string called(const char* name, bool timed) {
  return std::string(name) + (timed ? " with a timeout of the socket" : "");
}

void add_receiving(std::vector<BlockingCall>& out, bool timed) {
  auto add = [&](const char* name, long number, const std::function<long(int)>& call) {
    Pair pair = make_pair(SOCK_DGRAM, timed);
    out.push_back({called(name, timed), number, [=] { return result(call(pair.theirs)); },
                   [=](pid_t, pid_t) { (void)!::write(pair.ours, "x", 1); }, 1});
  };
  add("recv", SYS_recvfrom, [](int fd) {
    char c;
    return ::recv(fd, &c, 1, MSG_WAITALL);
  });
  add("read of a socket", SYS_read, [](int fd) {
    char c;
    return ::read(fd, &c, 1);
  });
  add("recvmsg", SYS_recvmsg, [](int fd) {
    char c;
    iovec to{&c, 1};
    msghdr message{};
    message.msg_iov = &to;
    message.msg_iovlen = 1;
    return ::recvmsg(fd, &message, 0);
  });
  add("recvmmsg", SYS_recvmmsg, [](int fd) {
    char c;
    iovec to{&c, 1};
    mmsghdr message{};
    message.msg_hdr.msg_iov = &to;
    message.msg_hdr.msg_iovlen = 1;
    timespec limit{.tv_sec = 3600, .tv_nsec = 0};
    return ::recvmmsg(fd, &message, 1, 0, &limit);
  });
}

void add_sending(std::vector<BlockingCall>& out, bool timed) {
  auto add = [&](const char* name, long number, const std::function<long(int)>& call) {
    Pair pair = make_pair(SOCK_DGRAM, timed);
    while (::send(pair.theirs, "x", 1, MSG_DONTWAIT) == 1) {
    }
    out.push_back({called(name, timed), number, [=] { return result(call(pair.theirs)); },
                   [=](pid_t, pid_t) {
                     char c;
                     while (::recv(pair.ours, &c, 1, MSG_DONTWAIT) == 1) {
                     }
                   },
                   1});
  };
  add("send", SYS_sendto, [](int fd) { return ::send(fd, "x", 1, 0); });
  add("writev to a socket", SYS_writev, [](int fd) {
    char c = 'x';
    iovec from{&c, 1};
    return ::writev(fd, &from, 1);
  });
  add("sendmmsg", SYS_sendmmsg, [](int fd) {
    char c = 'x';
    iovec from{&c, 1};
    mmsghdr message{};
    message.msg_hdr.msg_iov = &from;
    message.msg_hdr.msg_iovlen = 1;
    return ::sendmmsg(fd, &message, 1, 0);
  });
}

// A listener on the loopback whose queue is full: the next connection waits for room in it.
void add_connections(std::vector<BlockingCall>& out, bool timed) {
  auto make = [] { return ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0); };
  auto name_of = [](int fd) {
    sockaddr_in name{};
    socklen_t size = sizeof name;
    ::getsockname(fd, reinterpret_cast<sockaddr*>(&name), &size);
    return name;
  };
  auto join = [](int fd, sockaddr_in name) {
    return ::connect(fd, reinterpret_cast<const sockaddr*>(&name), sizeof name);
  };
  auto listener_for = [&](int queue) {
    int fd = make();
    sockaddr_in any{};
    any.sin_family = AF_INET;
    any.sin_addr.s_addr = ::htonl(INADDR_LOOPBACK);
    ::bind(fd, reinterpret_cast<const sockaddr*>(&any), sizeof any);
    if (::listen(fd, queue) != 0) {
      std::abort();
    }
    return fd;
  };
  int idle = listener_for(4);
  if (timed) {
    set_timeouts(idle);
  }
  out.push_back({called("accept4", timed), SYS_accept4,
                 [=] { return ::accept4(idle, nullptr, nullptr, 0) >= 0 ? 0L : result(-1); },
                 [=](pid_t, pid_t) { join(make(), name_of(idle)); }, 0});
  int full = listener_for(0);
  join(make(), name_of(full));
  int late = make();
  int attempts = 100;  // it tries for longer than any test lasts
  ::setsockopt(late, IPPROTO_TCP, TCP_SYNCNT, &attempts, sizeof attempts);
  if (timed) {
    set_timeouts(late);
  }
  out.push_back({called("connect", timed), SYS_connect,
                 [=] { return result(join(late, name_of(full))); },
                 [=](pid_t, pid_t) { ::shutdown(late, SHUT_RDWR); }, -ECONNRESET});
}

}  // namespace

void add_socket_calls(std::vector<BlockingCall>& out) {
  for (bool timed : {false, true}) {
    add_receiving(out, timed);
    add_sending(out, timed);
    add_connections(out, timed);
  }
}

}  // namespace qp::test
