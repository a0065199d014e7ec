// The lists of signal(7): calls that restart by themselves, calls that do through a restart block,
// calls that never do. With and without timeouts. Timeouts of an hour never pass in a test; those of
// 1 or 2 s do, and then the time is looked at.

#include "blocking_calls.h"

#include <linux/aio_abi.h>
#include <linux/futex.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <memory>

#include "victim.h"

namespace qp::test {
namespace {

constexpr timespec kLong{.tv_sec = 3600, .tv_nsec = 0};
constexpr int kLongMs = 3'600'000;

struct Pipe {
  int ends[2];
  Pipe() {
    if (::pipe(ends) != 0) {
      std::abort();
    }
  }
  void put() const {
    if (::write(ends[1], "x", 1) != 1) {
      std::abort();
    }
  }
};

using Finish = std::function<void(pid_t, pid_t)>;

// A call on a pipe of its own that ends when there is something to read.
BlockingCall on_pipe(std::string name, long number, long expected,
                     const std::function<long(int)>& call) {
  Pipe pipe;
  return {std::move(name), number, [=] { return result(call(pipe.ends[0])); },
          [=](pid_t, pid_t) { pipe.put(); }, expected};
}

int epoll_on(int fd) {
  int epoll = ::epoll_create1(0);
  epoll_event event{.events = EPOLLIN, .data = {}};
  ::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
  return epoll;
}

void set_timeout(int socket) {
  timeval timeout{.tv_sec = 3600, .tv_usec = 0};
  ::setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
}

void add_files(std::vector<BlockingCall>& out) {
  out.push_back(on_pipe("read", SYS_read, 1, [](int fd) {
    char c;
    return ::read(fd, &c, 1);
  }));
  out.push_back(on_pipe("poll", SYS_poll, 1, [](int fd) {
    pollfd p{.fd = fd, .events = POLLIN, .revents = 0};
    return ::poll(&p, 1, -1);
  }));
  out.push_back(on_pipe("poll with timeout", SYS_poll, 1, [](int fd) {
    pollfd p{.fd = fd, .events = POLLIN, .revents = 0};
    return ::poll(&p, 1, kLongMs);
  }));
  out.push_back(on_pipe("ppoll with timeout and mask", SYS_ppoll, 1, [](int fd) {
    pollfd p{.fd = fd, .events = POLLIN, .revents = 0};
    sigset_t none;
    sigemptyset(&none);
    return ::ppoll(&p, 1, &kLong, &none);
  }));
  out.push_back(on_pipe("select with timeout", SYS_pselect6, 1, [](int fd) {
    fd_set set;
    FD_ZERO(&set);
    FD_SET(fd, &set);
    return ::pselect(fd + 1, &set, nullptr, nullptr, &kLong, nullptr);
  }));
  out.push_back(on_pipe("epoll_wait", SYS_epoll_wait, 1, [](int fd) {
    epoll_event event;
    return ::epoll_wait(epoll_on(fd), &event, 1, -1);
  }));
  out.push_back(on_pipe("epoll_wait with timeout", SYS_epoll_wait, 1, [](int fd) {
    epoll_event event;
    return ::epoll_wait(epoll_on(fd), &event, 1, kLongMs);
  }));
  out.push_back(on_pipe("epoll_pwait with mask", SYS_epoll_pwait, 1, [](int fd) {
    epoll_event event;
    sigset_t none;
    sigemptyset(&none);
    return ::epoll_pwait(epoll_on(fd), &event, 1, -1, &none);
  }));
}

void add_sockets(std::vector<BlockingCall>& out) {
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) {
    std::abort();
  }
  set_timeout(pair[0]);
  out.push_back({"recv with SO_RCVTIMEO", SYS_recvfrom,
                 [fd = pair[0]] {
                   char c;
                   return result(::recv(fd, &c, 1, 0));
                 },
                 [fd = pair[1]](pid_t, pid_t) { (void)!::write(fd, "x", 1); }, 1});
  int listener = ::socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  // An abstract name of the kernel's choosing.
  socklen_t size = sizeof(sa_family_t);
  ::bind(listener, reinterpret_cast<sockaddr*>(&address), size);
  ::listen(listener, 4);
  set_timeout(listener);
  size = sizeof address;
  ::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size);
  out.push_back({"accept with SO_RCVTIMEO", SYS_accept,
                 [=] { return ::accept(listener, nullptr, nullptr) >= 0 ? 0L : result(-1); },
                 [=](pid_t, pid_t) {
                   int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
                   ::connect(fd, reinterpret_cast<const sockaddr*>(&address), size);
                 },
                 0});
}

// System V objects outlive processes.
struct Semaphore {
  int id = ::semget(IPC_PRIVATE, 1, 0600);
  ~Semaphore() { ::semctl(id, 0, IPC_RMID); }
};
struct Queue {
  int id = ::msgget(IPC_PRIVATE, 0600);
  ~Queue() { ::msgctl(id, IPC_RMID, nullptr); }
};
struct Message {
  long type = 1;
  char text[8] = {};
};

void add_ipc(std::vector<BlockingCall>& out) {
  for (bool timed : {false, true}) {
    auto semaphore = std::make_shared<Semaphore>();
    out.push_back({timed ? "semtimedop" : "semop", timed ? SYS_semtimedop : SYS_semop,
                   [=] {
                     sembuf down{.sem_num = 0, .sem_op = -1, .sem_flg = 0};
                     return result(timed ? ::semtimedop(semaphore->id, &down, 1, &kLong)
                                         : ::syscall(SYS_semop, semaphore->id, &down, 1));
                   },
                   [=](pid_t, pid_t) {
                     sembuf up{.sem_num = 0, .sem_op = 1, .sem_flg = 0};
                     ::semop(semaphore->id, &up, 1);
                   },
                   0});
  }
  auto queue = std::make_shared<Queue>();
  out.push_back({"msgrcv", SYS_msgrcv,
                 [=] {
                   Message message;
                   return result(::msgrcv(queue->id, &message, sizeof message.text, 0, 0));
                 },
                 [=](pid_t, pid_t) {
                   Message message;
                   ::msgsnd(queue->id, &message, 4, 0);
                 },
                 4});
  auto full = std::make_shared<Queue>();
  Message some;
  size_t count = 0;
  while (::msgsnd(full->id, &some, sizeof some.text, IPC_NOWAIT) == 0) {
    ++count;
  }
  out.push_back({"msgsnd to a full queue", SYS_msgsnd,
                 [=] {
                   Message message;
                   return result(::msgsnd(full->id, &message, sizeof message.text, 0));
                 },
                 [=](pid_t, pid_t) {
                   Message message;
                   for (size_t i = 0; i < count; ++i) {
                     (void)!::msgrcv(full->id, &message, sizeof message.text, 0, IPC_NOWAIT);
                   }
                 },
                 0});
}

void add_futexes(std::vector<BlockingCall>& out) {
  for (bool timed : {false, true}) {
    auto word = std::make_shared<Shared<std::atomic<int>>>();
    out.push_back({timed ? "futex with timeout" : "futex", SYS_futex,
                   [=] {
                     return result(::syscall(SYS_futex, &**word, FUTEX_WAIT, 0,
                                             timed ? &kLong : nullptr, nullptr, 0));
                   },
                   [=](pid_t, pid_t) {
                     **word = 1;
                     ::syscall(SYS_futex, &**word, FUTEX_WAKE, 1, nullptr, nullptr, 0);
                   },
                   0});
  }
  auto several = std::make_shared<Shared<std::atomic<int>>>();
  out.push_back(
      {"futex_waitv", 449,
       [=] {
         futex_waitv wait{};
         wait.uaddr = reinterpret_cast<uint64_t>(&**several);
         wait.flags = FUTEX_32;
         return result(::syscall(449, &wait, 1, 0, nullptr, 0));
       },
       [=](pid_t, pid_t) { ::syscall(SYS_futex, &**several, FUTEX_WAKE, 1, nullptr, nullptr, 0); },
       0});
  auto owned = std::make_shared<Shared<std::atomic<int>>>();
  **owned = this_tid();
  out.push_back({"futex with priority inheritance", SYS_futex,
                 [=] {
                   return result(
                       ::syscall(SYS_futex, &**owned, FUTEX_LOCK_PI, 0, nullptr, nullptr, 0));
                 },
                 [=](pid_t, pid_t) {
                   ::syscall(SYS_futex, &**owned, FUTEX_UNLOCK_PI, 0, nullptr, nullptr, 0);
                 },
                 0});
}

void add_signals(std::vector<BlockingCall>& out) {
  out.push_back({"sigtimedwait", SYS_rt_sigtimedwait,
                 [] {
                   sigset_t set;
                   sigemptyset(&set);
                   sigaddset(&set, SIGUSR2);
                   ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
                   return result(::sigtimedwait(&set, nullptr, &kLong));
                 },
                 [](pid_t pid, pid_t tid) { ::syscall(SYS_tgkill, pid, tid, SIGUSR2); }, SIGUSR2});
  out.push_back({"sigwaitinfo", SYS_rt_sigtimedwait,
                 [] {
                   sigset_t set;
                   sigemptyset(&set);
                   sigaddset(&set, SIGUSR2);
                   ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
                   return result(::sigwaitinfo(&set, nullptr));
                 },
                 [](pid_t pid, pid_t tid) { ::syscall(SYS_tgkill, pid, tid, SIGUSR2); }, SIGUSR2});
  Finish with_handler = [](pid_t pid, pid_t tid) { ::syscall(SYS_tgkill, pid, tid, SIGUSR1); };
  out.push_back({"pause", SYS_pause,
                 [] {
                   ::signal(SIGUSR1, ignore_signal);
                   return result(::pause());
                 },
                 with_handler, -EINTR});
  out.push_back({"sigsuspend", SYS_rt_sigsuspend,
                 [] {
                   ::signal(SIGUSR1, ignore_signal);
                   sigset_t none;
                   sigemptyset(&none);
                   return result(::sigsuspend(&none));
                 },
                 with_handler, -EINTR});
}

// Runs the body and says 0 if it ended as it should after at least `seconds`.
std::function<long()> timed(double seconds, long expected, std::function<long()> body) {
  return [=] {
    auto start = std::chrono::steady_clock::now();
    long got = body();
    std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    return got != expected ? got : took.count() >= seconds ? 0L : 1L;
  };
}

void add_timeouts(std::vector<BlockingCall>& out) {
  out.push_back({"nanosleep",
                 SYS_clock_nanosleep,
                 timed(1.5, 0,
                       [] {
                         timespec time{.tv_sec = 1, .tv_nsec = 500'000'000};
                         return result(::nanosleep(&time, nullptr));
                       }),
                 {},
                 0});
  out.push_back({"io_getevents with timeout",
                 SYS_io_getevents,
                 timed(1.0, 0,
                       [] {
                         aio_context_t context = 0;
                         ::syscall(SYS_io_setup, 1, &context);
                         io_event event;
                         timespec time{.tv_sec = 1, .tv_nsec = 0};
                         return result(::syscall(SYS_io_getevents, context, 1, 1, &event, &time));
                       }),
                 {},
                 0});
  io_uring_params params{};
  int ring = static_cast<int>(::syscall(SYS_io_uring_setup, 4, &params));
  if (ring >= 0) {
    out.push_back({"io_uring_enter with timeout",
                   SYS_io_uring_enter,
                   timed(1.0, -ETIME,
                         [=] {
                           __kernel_timespec time{.tv_sec = 1, .tv_nsec = 0};
                           io_uring_getevents_arg argument{};
                           argument.ts = reinterpret_cast<uint64_t>(&time);
                           return result(::syscall(SYS_io_uring_enter, ring, 0, 1,
                                                   IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG,
                                                   &argument, sizeof argument));
                         }),
                   {},
                   0});
  }
}

void add_children(std::vector<BlockingCall>& out) {
  for (bool by_id : {false, true}) {
    Pipe pipe;
    out.push_back({by_id ? "waitid" : "wait4", by_id ? SYS_waitid : SYS_wait4,
                   [=] {
                     pid_t child = ::fork();
                     if (child == 0) {
                       ::prctl(PR_SET_PDEATHSIG, SIGKILL);
                       char c;
                       (void)!::read(pipe.ends[0], &c, 1);
                       ::_exit(0);
                     }
                     siginfo_t info;
                     long got = by_id ? ::waitid(P_PID, static_cast<id_t>(child), &info, WEXITED)
                                      : ::waitpid(child, nullptr, 0) - child;
                     return result(got);
                   },
                   [=](pid_t, pid_t) { pipe.put(); }, 0});
  }
}

}  // namespace

void ignore_signal(int) {}

int rounds(int usual) {
  const char* wanted = std::getenv("QPATCH_ROUNDS");
  return wanted != nullptr ? std::atoi(wanted) : usual;
}

long result(long n) {
  return n < 0 ? -errno : n;
}

std::vector<BlockingCall> blocking_calls() {
  std::vector<BlockingCall> out;
  add_files(out);
  add_sockets(out);
  add_ipc(out);
  add_futexes(out);
  add_signals(out);
  add_timeouts(out);
  add_children(out);
  add_file_calls(out);
  add_socket_calls(out);
  add_timed_calls(out);
  return out;
}

}  // namespace qp::test
