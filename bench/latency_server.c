/* The server of bench/latency: on each of a number of threads it serves connections on loopback.
 *
 * A request is 64 bytes, of which the first eight are a number; the answer is 64 bytes that begin with
 * lookup(number). Prints its port when it listens, and ends when its standard input does.
 *
 * argv: THREADS */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MESSAGE = 64, TABLE = 4096 };

static uint64_t table[TABLE];

/* The function that is replaced. */
__attribute__((noinline)) uint64_t lookup(uint64_t key) {
  uint64_t sum = 0;
  for (int i = 0; i < 16; ++i) {
    sum += table[(key + (uint64_t)i) % TABLE];
  }
  return sum * 2 + 0;
}

static int serve(int connection) {
  unsigned char message[MESSAGE];
  ssize_t got = recv(connection, message, sizeof message, MSG_WAITALL);
  uint64_t key;
  if (got != MESSAGE) {
    return 0;
  }
  memcpy(&key, message, sizeof key);
  uint64_t answer = lookup(key);
  memcpy(message, &answer, sizeof answer);
  return send(connection, message, sizeof message, MSG_NOSIGNAL) == MESSAGE;
}

static void *work(void *argument) {
  int epoll = *(int *)argument;
  for (;;) {
    struct epoll_event events[16];
    int count = epoll_wait(epoll, events, 16, -1);
    if (count < 0) {
      perror("epoll_wait"); /* EINTR would be a defect of whoever stopped us */
      exit(1);
    }
    for (int i = 0; i < count; ++i) {
      if (!serve(events[i].data.fd)) {
        close(events[i].data.fd);
      }
    }
  }
  return NULL;
}

static int port_of(int listener) {
  struct sockaddr_in at;
  socklen_t size = sizeof at;
  getsockname(listener, (struct sockaddr *)&at, &size);
  return ntohs(at.sin_port);
}

static void *watch_input(void *unused) {
  char byte;
  (void)unused;
  while (read(0, &byte, 1) > 0) {
  }
  exit(0);
}

int main(int argc, char **argv) {
  int threads = argc == 2 ? atoi(argv[1]) : 0;
  int epolls[64];
  if (threads < 1 || threads > 64) {
    return 2;
  }
  for (int i = 0; i < TABLE; ++i) {
    table[i] = (uint64_t)i;
  }
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (bind(listener, (struct sockaddr *)&at, sizeof at) != 0 || listen(listener, 128) != 0) {
    return 2;
  }
  pthread_t thread;
  for (int i = 0; i < threads; ++i) {
    epolls[i] = epoll_create1(EPOLL_CLOEXEC);
    pthread_create(&thread, NULL, work, &epolls[i]);
  }
  pthread_create(&thread, NULL, watch_input, NULL);
  printf("%d\n", port_of(listener));
  fflush(stdout);
  for (int next = 0;; next = (next + 1) % threads) {
    int connection = accept(listener, NULL, NULL), on = 1;
    if (connection < 0) {
      return 1;
    }
    setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = connection};
    epoll_ctl(epolls[next], EPOLL_CTL_ADD, connection, &event);
  }
}
