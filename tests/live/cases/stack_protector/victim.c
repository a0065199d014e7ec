#include <stdio.h>

__attribute__((noinline)) void enclose(char* out, const char* text) {
  char room[64];
  snprintf(room, sizeof room, "<%s>", text);
  snprintf(out, 64, "%s", room);
}

void probe(const char* request) {
  char room[64];
  enclose(room, request);
  printf("%s", room);
}
