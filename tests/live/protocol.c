// The main program of every victim: says `ready`, then answers each line of stdin with one line. A
// victim defines probe(), and start() if it needs threads or timers. It is a unit of its own that no
// diff touches, so main() is on the stack all the time without being in anybody's way.
#include <stdio.h>
#include <string.h>

void probe(const char* request);  // prints the answer without its newline
void start(void) __attribute__((weak));

int main(void) {
  char line[256];
  if (start) {
    start();
  }
  puts("ready");
  fflush(stdout);
  while (fgets(line, sizeof line, stdin)) {
    line[strcspn(line, "\n")] = '\0';
    probe(line);
    putchar('\n');
    fflush(stdout);
  }
  return 0;
}
