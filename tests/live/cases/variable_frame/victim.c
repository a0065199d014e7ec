#include <alloca.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

__attribute__((noinline)) int sum(int n) {
  int values[n];
  int total = 0;
  for (int i = 0; i < n; i++) {
    values[i] = i;
  }
  for (int i = 0; i < n; i++) {
    total += values[i];
  }
  return total;
}

__attribute__((noinline)) int fill(int n) {
  char* room = alloca(n + 1);
  memset(room, 'x', n);
  room[n] = 0;
  return (int)strlen(room);
}

void probe(const char* request) {
  printf("%d %d", sum(atoi(request)), fill(atoi(request)));
}
