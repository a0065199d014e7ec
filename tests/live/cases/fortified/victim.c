#include <stdio.h>
#include <string.h>

__attribute__((noinline)) void shout(char* out, const char* text) {
  char room[64];
  strcpy(room, text);
  strcat(room, "!");
  memcpy(out, room, sizeof room);
}

void probe(const char* request) {
  char room[64];
  shout(room, request);
  printf("%s", room);
}
