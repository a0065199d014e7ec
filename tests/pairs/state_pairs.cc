// Pairs about what lives in the process: variables, their initial values, static locals.

#include "pair.h"

namespace qp::pairs {

std::vector<Pair> state_pairs() {
  std::vector<Pair> list;
  auto add = [&](Pair p) -> Pair& {
    list.push_back(std::move(p));
    return list.back();
  };

  // Static locals: the numbers that GCC appends move when one is added or removed.
  const std::string locals = R"(
    KEEP int one(void) { static int aaa; return ++aaa; }
    KEEP int two(void) { static int aaa = 5; return aaa += 2; }
    KEEP int three(int x) { return g1(x); })";
  Pair& two_locals = add(edit("TwoStaticLocals", locals, "aaa += 2", "aaa += 3", {"two"}));
  (void)two_locals;
  add(edit("StaticLocalAdded", locals, "KEEP int one(void) {",
           "KEEP int zero(void) { static int aaa = 9; return --aaa; }\n KEEP int one(void) {", {}))
      .fresh = {"zero"};
  list.back().state = {"aaa"};
  add(edit("StaticLocalAddedLast", locals, "return g1(x);",
           "static int aaa = 8; return g1(x) + aaa--;", {"three"}))
      .state = {"aaa"};
  add(edit("StaticLocalRemoved", locals, "static int aaa; return ++aaa;", "return g2(3);",
           {"one"}));
  add(refusal("StaticLocalInitialiser", locals, "aaa = 5", "aaa = 6", {}, {"initialiser-changed"}));
  add(refusal("StaticLocalGrew", R"(
    KEEP int one(int i) { static int list[4]; list[i] += g1(i); return list[i]; })",
              "list[4]", "list[5]", {}, {"variable-resized"}));
  add(refusal("StaticLocalMoved", R"(
    KEEP int one(int x) { static int aaa; return g1(x) + ++aaa; }
    KEEP int two(int x) { return g2(x); })",
              "static int aaa; return g1(x) + ++aaa; }\n    KEEP int two(int x) {",
              "return g1(x); }\n KEEP int two(int x) { static int aaa; ++aaa;", {"one", "two"},
              {}));
  list.back().refused = {"state-ambiguous"};
  list.back().where = gcc_only;  // clang's names say which function it is
  add(edit("TwoInOneFunction", R"(
    KEEP int both(int x) {
      if (x) { static int aaa = 3; return aaa += x; } else { static int aaa = 4; return aaa -= 7; } }
    KEEP int other(int x) { static int aaa; return aaa += g1(x); })",
           "g1(x)", "g2(x)", {"other"}));
  add(edit("InlinedHelper", R"(
    static inline __attribute__((always_inline)) int next(int by) { static int n; return n += by; }
    KEEP int one(int x) { return next(x) + 1; }
    KEEP int two(int x) { return next(x) + 2; }
    KEEP int three(int x) { return g1(x); })",
           "n += by", "n -= by", {"one", "two"}));

  // Names that lead to another function or variable.
  // Refusal: alias-changed
  add(refusal("AliasRetargeted", R"(
    int one(int x) { return g1(x) + 1; }
    int two(int x) { return g1(x) + 2; }
    int other(int x) __attribute__((alias("one")));
    KEEP int user(int x) { return g2(x); })",
              "alias(\"one\")", "alias(\"two\")", {}, {"alias-changed"}));

  // State.
  const std::string globals = R"(
    int counter = 5; static int hidden = 7; int zero; char *message = "text"; int list[4] = {1, 2, 3, 4};
    struct pair { int a; const char *b; } pair = {1, "one"};
    KEEP int get(void) { use(&zero, message, list, &pair); return counter + ++hidden; })";
  add(refusal("GlobalInitialiser", globals, "counter = 5", "counter = 6", {},
              {"initialiser-changed"}));
  add(refusal("StaticInitialiser", globals, "hidden = 7", "hidden = 8", {},
              {"initialiser-changed"}));
  add(refusal("BssInitialised", globals, "int zero;", "int zero = 3;", {},
              {"initialiser-changed"}));
  add(refusal("PointerInitialiser", globals, "\"text\"", "\"test\"", {}, {"initialiser-changed"}));
  add(refusal("StructInitialiser", globals, "\"one\"", "\"two\"", {}, {"initialiser-changed"}));
  add(refusal("GlobalGrew", globals, "list[4] = {1, 2, 3, 4}", "list[5] = {1, 2, 3, 4}", {},
              {"variable-resized"}));
  Pair& get = add(edit("Globals", globals, "counter + ++hidden", "counter - ++hidden", {"get"}));
  get.bound = {"zero", "message", "list", "pair", "counter", "hidden"};

  // Thread-local and indirect.
  const std::string tls = R"(
    static __thread int mine = 3; __thread int shared;
    KEEP int touch(int x) { return mine += x; }
    KEEP int other(int x) { return g1(x) + shared; })";
  add(edit("ThreadLocal", tls, "mine += x", "mine -= x", {"touch"}));
  add(edit("ThreadLocalUntouched", tls + "KEEP int last(int x) { return g3(x); }", "g3(x)", "g2(x)",
           {"last"}));
  Pair& new_tls = add(edit("ThreadLocalNew", tls, "__thread int shared;",
                           "__thread int shared; static __thread int more;", {"touch"}));
  new_tls.state = {"more"};
  new_tls.patched = replaced(new_tls.patched, "mine += x", "mine += more++");
  // 64 KiB and more live elsewhere in the medium model.
  Pair& large = add(edit("LargeArrays", R"(
    static int large[30000] = {1}; static int empty[30000]; static const int fixed[30000] = {3};
    KEEP int get(int i) { use(fixed, large, empty); return large[i] += empty[i]; }
    KEEP int look(int i) { return fixed[i] + g1(i); })",
                         "large[i] += empty[i]", "large[i] -= empty[i]", {"get"}));
  large.bound = {"large", "empty", "fixed"};

  std::string many = "static int shared = 3;\n";
  for (int n = 0; n < 24; ++n) {
    many += "KEEP int user" + std::to_string(n) + "(int x) { return g1(shared += x * " +
            std::to_string(n + 5) + "); }\n";
  }
  add(edit("ManyUsers", many, "x * 12)", "x * 112)", {"user7"})).bound = {"shared"};

  // A helper that is inlined from now on, and the other way: its state goes on.
  const std::string helper = R"(
    KEEP static int next(int by) { static int n = 4; return n += by; }
    KEEP int one(int x) { return next(x) + 1; }
    KEEP int two(int x) { return next(x) + 2; })";
  const std::string inlined =
      replaced(helper, "KEEP static", "static inline __attribute__((always_inline))");
  add({"HelperInlined", helper, inlined, {"one", "two"}}).removed = {"next"};
  add({"HelperOutlined", inlined, helper, {"one", "two"}}).fresh = {"next"};
  return list;
}

}  // namespace qp::pairs
