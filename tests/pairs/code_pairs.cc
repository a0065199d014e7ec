// Pairs whose difference lies in code and in how pieces of code find each other.

#include "pair.h"

namespace qp::pairs {

namespace {

std::string switch_of(int cases) {
  std::string s = "KEEP int jump(int x, int y) { switch (x) {\n";
  for (int n = 0; n < cases; ++n) {
    s += "case " + std::to_string(n) + ": return g" + std::to_string(n % 3 + 1) + "(y * " +
         std::to_string(n * 7 + 3) + ") + " + std::to_string(n) + ";\n";
  }
  return s + "} return g1(1000); }\nKEEP int other(int x) { return g2(x); }\n";
}

}  // namespace

std::vector<Pair> code_pairs() {
  std::vector<Pair> list;
  auto add = [&](Pair p) -> Pair& {
    list.push_back(std::move(p));
    return list.back();
  };

  // The cold path of GCC jumps back into the middle of its parent.
  const std::string cold = R"(
    int total;
    KEEP int work(int x) {
      if (__builtin_expect(x == 77, 0)) { fail("x %d", x); }
      total += x * 3;
      if (__builtin_expect(x < 0, 0)) { use("negative", x); g3(9); x = 5; }
      return g1(x) + total;
    }
    KEEP int bystander(int i) { return g1(i); })";
  Pair& parent = add(edit("ColdParent", cold, "x * 3", "x * 5", {"work"}));
  parent.bound = {"total"};
  add(edit("ColdPath", cold, "g3(9)", "g3(10)", {"work"}));

  Pair& address = add(edit("AddressOfChanged", R"(
    KEEP int target(int x) { return g1(x) + 1; }
    KEEP void taker(void) { use((void *)target, 5); })",
                           "+ 1", "+ 2", {"target"}));
  address.patched = replaced(address.patched, "5)", "6)");
  address.changed = {"target", "taker"};
  address.bound = {"target"};

  add(edit("Recursion",
           "KEEP int f(int x) { use((void *)f, 0); return x < 2 ? 1 : g1(f(x - 1)) + f(x - 2); }",
           "x < 2", "x < 3", {"f"}))
      .bound = {"f"};

  add(edit("SwitchOf64", switch_of(64), "case 40: return g2(y * 283)",
           "case 40: return g2(y * 284)", {"jump"}));
  std::string reordered = switch_of(64);
  reordered = replaced(reordered, "case 8: return g3", "case 9 + 1000: return g3");
  add({"SwitchCaseGone", switch_of(64), reordered, {"jump"}});

  // Code whose address is kept as data.
  add(refusal("WritableLabelTable", R"(
    void *table_of[2];
    KEEP int go(int i) { static void *labels[] = {&&a, &&b}; use(labels);
      labels[i & 1] = labels[0]; goto *labels[i]; a: return g1(1); b: return g2(2); })",
              "g2(2)", "g2(3)", {"go"}, {"label-address"}));
  add(edit("ConstLabelTable", R"(
    KEEP int go(int i) { static void *const labels[] = {&&a, &&b, &&c};
      goto *labels[i]; a: return g1(1); b: return g2(2); c: return g3(3); }
    KEEP int other(int i) { static void *const labels[] = {&&a, &&b, &&c};
      goto *labels[i]; a: return g1(7); b: return g2(8); c: return g3(9); })",
           "g2(2)", "g2(3)", {"go"}));
  add(refusal("ConstructorAdded", "KEEP int f(int x) { return g1(x); }", "KEEP",
              "__attribute__((constructor)) void start(void) { g1(0); }\nKEEP", {},
              {"init-changed"}))
      .fresh = {"start"};
  add(refusal("ConstructorChanged", R"(
    __attribute__((constructor)) static void start(void) { g1(0); }
    KEEP int f(int x) { return g1(x); })",
              "g1(0)", "g1(3)", {"start"}, {"init-changed"}));

  // Inlining: the callers change, not the helper that is nowhere by itself.
  add(edit("InlinedCallee", R"(
    static inline __attribute__((always_inline)) int twice(int x) { return g1(x) * 2; }
    KEEP int a(int x) { return twice(x); }
    KEEP int b(int x) { return twice(x + 1); }
    KEEP int c(int x) { return g2(x); })",
           "* 2", "* 3", {"a", "b"}));
  add(edit("CalleeSwapped",
           "KEEP int f(int x) { return g1(x); }\nKEEP int h(int x) { return g2(x); }",
           "return g1(x)", "return g2(x)", {"f"}));
  add(edit("SwitchOf5", switch_of(5), "(y * 24) + 3", "(y * 24) + 4", {"jump"}));
  add(edit("SwitchOf300", switch_of(300), "return g1(y * 2082)", "return g1(y * 2083)", {"jump"}));

  // What the flags of distributions make: canaries, checked copies.
  add(edit("CheckedCopy", R"(
    #include <stdio.h>
    #include <string.h>
    KEEP int copy(const char *from) {
      char to[24]; strcpy(to, from); strcat(to, "tail"); use(to); return g1(to[3]); }
    KEEP int print(int x) { char to[40]; sprintf(to, "%d and %d", x, 7); use(to); return to[1]; }
    KEEP int move(char *at, long n) { char to[32]; memcpy(to, at, n); use(to); return g2(to[5]); })",
           "char to[24]", "char to[72]", {"copy"}));
  return list;
}

}  // namespace qp::pairs
