// Refusal: variable-resized
#include <stdio.h>
#include <string.h>

static char room[16];

__attribute__((noinline)) void store(const char* text) {
  strncpy(room, text, sizeof room - 1);
}

void probe(const char* request) {
  store(request);
  printf("%s", room);
}
