// No two neighbouring cases do the same, so that the compiler can't make a table of values of it.
#include <stdio.h>
#include <stdlib.h>

int noted;

__attribute__((noinline)) void note(int what) {
  noted = what;
}

__attribute__((noinline)) int act(int which, int x) {
  int total = 0;
  switch (which) {
    case 0:
      total += x * 3;
      break;
    case 1:
      total -= x + 4;
      break;
    case 2:
      total ^= x << (5 % 7);
      break;
    case 3:
      note(6);
      break;
    case 4:
      total += x * 7;
      break;
    case 5:
      total -= x + 8;
      break;
    case 6:
      total ^= x << (9 % 7);
      break;
    case 7:
      note(10);
      break;
    case 8:
      total += x * 11;
      break;
    case 9:
      total -= x + 12;
      break;
    case 10:
      total ^= x << (13 % 7);
      break;
    case 11:
      note(14);
      break;
    case 12:
      total += x * 15;
      break;
    case 13:
      total -= x + 16;
      break;
    case 14:
      total ^= x << (17 % 7);
      break;
    case 15:
      note(18);
      break;
    case 16:
      total += x * 19;
      break;
    case 17:
      total -= x + 20;
      break;
    case 18:
      total ^= x << (21 % 7);
      break;
    case 19:
      note(22);
      break;
    case 20:
      total += x * 23;
      break;
    case 21:
      total -= x + 24;
      break;
    case 22:
      total ^= x << (25 % 7);
      break;
    case 23:
      note(26);
      break;
    case 24:
      total += x * 27;
      break;
    case 25:
      total -= x + 28;
      break;
    case 26:
      total ^= x << (29 % 7);
      break;
    case 27:
      note(30);
      break;
    case 28:
      total += x * 31;
      break;
    case 29:
      total -= x + 32;
      break;
    case 30:
      total ^= x << (33 % 7);
      break;
    case 31:
      note(34);
      break;
    case 32:
      total += x * 35;
      break;
    case 33:
      total -= x + 36;
      break;
    case 34:
      total ^= x << (37 % 7);
      break;
    case 35:
      note(38);
      break;
    case 36:
      total += x * 39;
      break;
    case 37:
      total -= x + 40;
      break;
    case 38:
      total ^= x << (41 % 7);
      break;
    case 39:
      note(42);
      break;
    case 40:
      total += x * 43;
      break;
    case 41:
      total -= x + 44;
      break;
    case 42:
      total ^= x << (45 % 7);
      break;
    case 43:
      note(46);
      break;
    case 44:
      total += x * 47;
      break;
    case 45:
      total -= x + 48;
      break;
    case 46:
      total ^= x << (49 % 7);
      break;
    case 47:
      note(50);
      break;
    case 48:
      total += x * 51;
      break;
    case 49:
      total -= x + 52;
      break;
    case 50:
      total ^= x << (53 % 7);
      break;
    case 51:
      note(54);
      break;
    case 52:
      total += x * 55;
      break;
    case 53:
      total -= x + 56;
      break;
    case 54:
      total ^= x << (57 % 7);
      break;
    case 55:
      note(58);
      break;
    case 56:
      total += x * 59;
      break;
    case 57:
      total -= x + 60;
      break;
    case 58:
      total ^= x << (61 % 7);
      break;
    case 59:
      note(62);
      break;
    case 60:
      total += x * 63;
      break;
    case 61:
      total -= x + 64;
      break;
    case 62:
      total ^= x << (65 % 7);
      break;
    case 63:
      note(66);
      break;
    case 64:
      total += x * 67;
      break;
    case 65:
      total -= x + 68;
      break;
    case 66:
      total ^= x << (69 % 7);
      break;
    case 67:
      note(70);
      break;
    case 68:
      total += x * 71;
      break;
    case 69:
      total -= x + 72;
      break;
  }
  return total;
}

void probe(const char* request) {
  noted = 0;
  int total = act(atoi(request), 2);
  printf("%d %d", total, noted);
}
