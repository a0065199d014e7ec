/* The victim of bench/kill_storm: threads that call the function that is replaced, threads that are
 * born and die all the time, and a timer that interrupts them. Counts results that neither the old function
 * nor one of the new ones gives, and says so once a second. */
#define _GNU_SOURCE
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <unistd.h>
static _Atomic long calls, ticks, bad;
__attribute__((noinline)) int answer(int x) {
  calls++;
  if (x > 1000000) {
    puts("never");
    return 0;
  }
  return x * 3 + 1;
}
static void tick(int s) {
  (void)s;
  ticks++;
}
static void* churn(void* p) {
  (void)p;
  int v = answer(7);
  if (v != 22 && v != 72 && v != 703) bad++;
  return NULL;
}
static void* loop(void* p) {
  (void)p;
  for (;;) {
    int v = answer(7);
    if (v != 22 && v != 72 && v != 703) bad++;
    struct timespec t = {0, 200000};
    nanosleep(&t, NULL);
  }
}
static void* maker(void* p) {
  (void)p;
  for (;;) {
    pthread_t t[4];
    for (int i = 0; i < 4; i++) pthread_create(&t[i], NULL, churn, NULL);
    for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
    usleep(300);
  }
}
int main(void) {
  signal(SIGALRM, tick);
  struct itimerval it = {{0, 3000}, {0, 3000}};
  setitimer(ITIMER_REAL, &it, NULL);
  pthread_t t;
  for (int i = 0; i < 4; i++) pthread_create(&t, NULL, loop, NULL);
  pthread_create(&t, NULL, maker, NULL);
  for (;;) {
    struct timespec w = {1, 0};
    while (nanosleep(&w, &w))
      ;
    printf("calls %ld ticks %ld bad %ld\n", (long)calls, (long)ticks, (long)bad);
    fflush(stdout);
  }
}
