// Calls that wait for a descriptor, a lock or another process, and have no timeout or one that never
// passes in a test.

#include <fcntl.h>
#include <mqueue.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <termios.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <string>

#include "blocking_calls.h"

namespace qp::test {
namespace {

constexpr timespec kLong{.tv_sec = 3600, .tv_nsec = 0};

int demand(long fd) {
  if (fd < 0) {
    std::abort();
  }
  return static_cast<int>(fd);
}

void send(int fd, const void* bytes, size_t size) {
  if (::write(fd, bytes, size) != static_cast<ssize_t>(size)) {
    std::abort();
  }
}

// Another open file of the same memfd, as locks need.
int again(int fd) {
  return demand(::open(("/proc/self/fd/" + std::to_string(fd)).c_str(), O_RDWR));
}

BlockingCall reading(std::string name, int fd, long expected, std::function<void()> finish) {
  return {std::move(name), SYS_read,
          [fd] {
            char bytes[256];
            return result(::read(fd, bytes, sizeof bytes));
          },
          [finish = std::move(finish)](pid_t, pid_t) { finish(); }, expected};
}

void add_special_files(std::vector<BlockingCall>& out) {
  int terminal = demand(::posix_openpt(O_RDWR | O_NOCTTY));
  if (::grantpt(terminal) != 0 || ::unlockpt(terminal) != 0) {
    std::abort();
  }
  int slave = demand(::open(::ptsname(terminal), O_RDWR | O_NOCTTY));
  out.push_back(reading("read of a terminal", slave, 2, [=] { send(terminal, "x\n", 2); }));

  int raw = demand(::posix_openpt(O_RDWR | O_NOCTTY));
  if (::grantpt(raw) != 0 || ::unlockpt(raw) != 0) {
    std::abort();
  }
  int raw_slave = demand(::open(::ptsname(raw), O_RDWR | O_NOCTTY));
  termios how{};
  ::tcgetattr(raw_slave, &how);
  ::cfmakeraw(&how);
  ::tcsetattr(raw_slave, TCSANOW, &how);
  out.push_back(reading("read of a raw terminal", raw_slave, 1, [=] { send(raw, "x", 1); }));

  int event = demand(::eventfd(0, 0));
  out.push_back(reading("read of an eventfd", event, 8, [=] {
    uint64_t one = 1;
    send(event, &one, sizeof one);
  }));

  int timer = demand(::timerfd_create(CLOCK_MONOTONIC, 0));
  itimerspec late{.it_interval = {}, .it_value = kLong};
  ::timerfd_settime(timer, 0, &late, nullptr);
  out.push_back(reading("read of a timerfd", timer, 8, [=] {
    itimerspec now{.it_interval = {}, .it_value = {.tv_sec = 0, .tv_nsec = 1}};
    ::timerfd_settime(timer, 0, &now, nullptr);
  }));

  char name[] = "/tmp/qpatch-watched-XXXXXX";  // of a memfd one is not told
  int watched = demand(::mkstemp(name));
  ::unlink(name);
  int watch = demand(::inotify_init1(0));
  demand(
      ::inotify_add_watch(watch, ("/proc/self/fd/" + std::to_string(watched)).c_str(), IN_MODIFY));
  out.push_back(
      reading("read of an inotify", watch, sizeof(inotify_event), [=] { send(watched, "x", 1); }));

  out.push_back({"read of a signalfd", SYS_read,
                 [] {
                   sigset_t set;
                   sigemptyset(&set);
                   sigaddset(&set, SIGUSR2);
                   ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
                   signalfd_siginfo info;
                   return result(::read(::signalfd(-1, &set, 0), &info, sizeof info));
                 },
                 [](pid_t pid, pid_t tid) { ::syscall(SYS_tgkill, pid, tid, SIGUSR2); },
                 sizeof(signalfd_siginfo)});
}

void add_locks(std::vector<BlockingCall>& out) {
  int locked = demand(::memfd_create("flock", 0));
  ::flock(locked, LOCK_EX);
  int other = again(locked);
  out.push_back({"flock", SYS_flock, [=] { return result(::flock(other, LOCK_EX)); },
                 [=](pid_t, pid_t) { ::flock(locked, LOCK_UN); }, 0});
  for (int command : {F_SETLKW, F_OFD_SETLKW}) {
    int file = demand(::memfd_create("lock", 0));
    int theirs = again(file);
    struct flock lock {};
    lock.l_type = F_WRLCK;
    ::fcntl(file, command, &lock);
    out.push_back({command == F_SETLKW ? "fcntl F_SETLKW" : "fcntl F_OFD_SETLKW", SYS_fcntl,
                   [=] {
                     struct flock mine = lock;
                     return result(::fcntl(theirs, command, &mine));
                   },
                   [=](pid_t, pid_t) {
                     struct flock mine = lock;
                     mine.l_type = F_UNLCK;
                     ::fcntl(file, command, &mine);
                   },
                   0});
  }
}

void add_pipes(std::vector<BlockingCall>& out) {
  struct Ends {
    int read, write;
  };
  auto make = [] {
    int ends[2];
    demand(::pipe(ends));
    return Ends{ends[0], ends[1]};
  };
  Ends a = make();
  out.push_back({"readv", SYS_readv,
                 [=] {
                   char c;
                   iovec to{&c, 1};
                   return result(::readv(a.read, &to, 1));
                 },
                 [=](pid_t, pid_t) { send(a.write, "x", 1); }, 1});
  Ends from = make(), to = make();
  out.push_back({"splice", SYS_splice,
                 [=] { return result(::splice(from.read, nullptr, to.write, nullptr, 1, 0)); },
                 [=](pid_t, pid_t) { send(from.write, "x", 1); }, 1});
  // Full: nothing is written before it waits.
  Ends full = make();
  ::fcntl(full.write, F_SETPIPE_SZ, 4096);
  const std::string page(static_cast<size_t>(::fcntl(full.write, F_GETPIPE_SZ)), 'x');
  send(full.write, page.data(), page.size());
  out.push_back({"write to a full pipe", SYS_write,
                 [=] { return result(::write(full.write, "x", 1)); },
                 [=, size = page.size()](pid_t, pid_t) {
                   std::string drained(size, '\0');
                   (void)!::read(full.read, drained.data(), size);
                 },
                 1});
  Ends s = make();
  out.push_back({"select", SYS_select,
                 [=] {
                   fd_set set;
                   FD_ZERO(&set);
                   FD_SET(s.read, &set);
                   return result(
                       ::syscall(SYS_select, s.read + 1, &set, nullptr, nullptr, nullptr));
                 },
                 [=](pid_t, pid_t) { send(s.write, "x", 1); }, 1});
  Ends p = make();
  out.push_back({"pselect with mask and timeout in read-only memory", SYS_pselect6,
                 [=] {
                   fd_set set;
                   FD_ZERO(&set);
                   FD_SET(p.read, &set);
                   sigset_t none;
                   sigemptyset(&none);
                   struct {
                     const sigset_t* set;
                     size_t size;
                   } mask{&none, 8};
                   return result(
                       ::syscall(SYS_pselect6, p.read + 1, &set, nullptr, nullptr, &kLong, &mask));
                 },
                 [=](pid_t, pid_t) { send(p.write, "x", 1); }, 1});
  Ends e = make();
  out.push_back({"epoll_pwait2", 441,
                 [=] {
                   int epoll = ::epoll_create1(0);
                   epoll_event event{.events = EPOLLIN, .data = {}};
                   ::epoll_ctl(epoll, EPOLL_CTL_ADD, e.read, &event);
                   return result(::syscall(441, epoll, &event, 1, &kLong, nullptr, 0));
                 },
                 [=](pid_t, pid_t) { send(e.write, "x", 1); }, 1});
}

void add_queues(std::vector<BlockingCall>& out) {
  for (bool receive : {true, false}) {
    std::string name = "/qpatch-" + std::to_string(::getpid()) + (receive ? "r" : "s");
    mq_attr how{};
    how.mq_maxmsg = 1;
    how.mq_msgsize = 8;
    mqd_t queue = demand(::mq_open(name.c_str(), O_CREAT | O_RDWR, 0600, &how));
    ::mq_unlink(name.c_str());
    if (!receive) {
      ::mq_send(queue, "x", 1, 0);
    }
    static timespec when;
    ::clock_gettime(CLOCK_REALTIME, &when);
    when.tv_sec += kLong.tv_sec;
    out.push_back({receive ? "mq_timedreceive" : "mq_timedsend",
                   receive ? SYS_mq_timedreceive : SYS_mq_timedsend,
                   [=] {
                     char message[8] = {};
                     return result(
                         receive ? ::mq_timedreceive(queue, message, sizeof message, nullptr, &when)
                                 : ::mq_timedsend(queue, message, 1, 0, &when));
                   },
                   [=](pid_t, pid_t) {
                     char message[8];
                     if (receive) {
                       ::mq_send(queue, "x", 1, 0);
                     } else {
                       (void)!::mq_receive(queue, message, sizeof message, nullptr);
                     }
                   },
                   receive ? 1 : 0});
  }
}

}  // namespace

void add_file_calls(std::vector<BlockingCall>& out) {
  add_special_files(out);
  add_locks(out);
  add_pipes(out);
  add_queues(out);
}

}  // namespace qp::test
