#include <stdio.h>
#include <stdlib.h>

struct session {
  int number;
} sessions[3] = {{0}, {1}, {2}};

__attribute__((noinline)) int work(struct session* session) { return session->number; }

void probe(const char* request) {
  printf("%d", work(&sessions[atoi(request)]));
}
