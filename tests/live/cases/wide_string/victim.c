// Each wchar_t of ASCII text holds three NUL bytes: a differ that takes L"abcd" for C strings sees "a".
#include <stdio.h>
#include <stdlib.h>
#include <wchar.h>

__attribute__((noinline)) int character(volatile int at) {
  const wchar_t* text = L"abcd";
  return text[at];
}

void probe(const char* request) {
  printf("%d", character(atoi(request)));
}
