// Linked last: nothing but the end of this array is out of reach.
static char huge[9UL << 28];

int is_there(void) {
  char* volatile start = huge;
  return start[sizeof huge - 1] == 0;
}
