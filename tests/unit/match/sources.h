// A program with one of everything that a linker touches. Its named constants stand before its
// strings: without optimisation, padding between them could differ between object and target, which
// is refused (Proof.PaddingBetweenConstantsIsNotGuessed).
#pragma once

#include <map>
#include <string>

namespace qp::match {

inline const char* const kEverything = R"(
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define N __attribute__((noinline))
static int counter;
int shared_global = 5;
extern int other_value;
int other(int);
static const int table[] = {1, 2, 3, 5, 8};
static const char* const names[] = {"one", "two", "three"};
N static int helper(int x) { return x * 3 + counter++; }
N int choose(int x) {
  switch (x) {
    case 0: return helper(5);
    case 1: return other(7);
    case 2: return printf("two\n");
    case 3: return x * 9 + other_value;
    case 4: return shared_global;
    case 5: puts("five"); return 4;
    case 6: return errno;
    default: return -1;
  }
}
N double floating(double d) { return d * 3.25 + 1.5e10; }
N static int first(void) { static int aaa = 1; return aaa++; }
N static int second(void) { static int aaa = 2; return aaa++; }
N const char* name_of(unsigned i) {
  if (__builtin_expect(i > 2, 0)) { fprintf(stderr, "bad %u\n", i); abort(); }
  return names[i];
}
N int local_table(int i) {
  int local[6] = {9, 8, 7, 6, 5, 4};
  for (int k = 0; k < 6; k++) local[k] += table[i % 5] * k;
  return local[i % 6];
}
static int (*pointer)(int) = choose;
N int (*get_pointer(void))(int) { return pointer == choose ? helper : other; }
N static int recurse(int n) { return n < 2 ? n : recurse(n - 1) + recurse(n - 2); }
__thread int tls_global = 4;
static __thread int tls_local;
static __thread int tls_second = 7;
N int thread_local_sum(void) { return tls_global++ + tls_local-- + tls_second++; }
__attribute__((cold, noinline)) void complain(const char* s) { fputs(s, stderr); }
N int guarded(int x) {
  if (x == 12345) { complain("unlikely"); x = counter + 1; }
  return x * 2 + counter;
}
N int labels(int i) {
  static const void* const places[] = {&&a, &&b, &&c};
  goto *places[i];
a: return 1;
b: return other(2);
c: return 3;
}
N void store(void) { other_value = 1000; shared_global = 0x12345678; }
N int compare(void) { return other_value == 42; }
N const int* wide(void) { return L"wide \0 string" + 2; }
int main(int argc, char** argv) {
  store();
  printf("%d %f %d %d %s %d %p %d %d %d %d %p\n", choose(argc), floating(argc), first(), second(),
         name_of(argc % 3), local_table(argc), (void*)get_pointer(), recurse(argc),
         thread_local_sum(), labels(argc % 3), compare() + guarded(argc), wide());
  memset(argv[0], 0, 1);
  return 0;
}
)";

inline const char* const kOther = R"(
#include <stdio.h>
int other_value = 77;
const char spare[] = "two";
static int counter;
__attribute__((noinline)) static int helper(int x) { return x * 3 + counter++; }
int other(int x) { return helper(x) + puts("other"); }
)";

inline std::map<std::string, std::string> everything() {
  return {{"a.c", kEverything}, {"b.c", kOther}};
}

}  // namespace qp::match
