// Original and patched source, and what the diff must find, for two compilers, five levels of
// optimisation, with and without position independence. The table covers every way in which other
// differs are known to fail (docs/objdiff.md), the cases around static locals, and what must be
// refused.
//
// Sources keep functions apart with KEEP, since what an optimiser does across functions would make
// the expected set a matter of its mood.

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "compiled.h"

namespace qp::pairs {
namespace {

using Names = std::set<std::string>;
using objdiff::Fate;

struct Pair {
  std::string name;
  std::string original, patched;
  Names changed, fresh = {}, removed = {}, refused = {};
  Names included = {};  // must be among the included
  Names bound = {};     // must be among the bound
  // May change too at gcc -O0, which puts all strings into one .rodata: the end of one is the start
  // of the next there, and a function that could mean either counts as changed.
  Names beside = {};
  std::function<bool(const Compiler&)> where = nullptr;  // nullptr: everywhere
};

bool has_flag(const Compiler& c, const std::string& flag) {
  return std::find(c.flags.begin(), c.flags.end(), flag) != c.flags.end();
}
bool executable_only(const Compiler& c) {
  return !has_flag(c, "-fPIC");
}
bool gcc_only(const Compiler& c) {
  return c.name == "gcc-12";
}

const char* const kPrelude = R"(
#ifdef __clang__
#define KEEP __attribute__((noinline))
#else
#define KEEP __attribute__((noipa))
#endif
typedef __WCHAR_TYPE__ wide;
extern int g1(int), g2(int), g3(int);
extern void use(const void *, ...);
extern void fail(const char *, ...) __attribute__((cold, noreturn));
)";

std::string replaced(std::string text, const std::string& what, const std::string& with) {
  size_t at = text.find(what);
  EXPECT_NE(at, std::string::npos) << what;
  return text.replace(at, what.size(), with);
}

// A pair whose patched source is the original with one replacement.
Pair edit(std::string name, const std::string& source, const std::string& what,
          const std::string& with, Names changed) {
  return {std::move(name), source, replaced(source, what, with), std::move(changed)};
}
Pair refusal(std::string name, const std::string& source, const std::string& what,
             const std::string& with, Names changed, Names refused) {
  Pair p = edit(std::move(name), source, what, with, std::move(changed));
  p.refused = std::move(refused);
  return p;
}

std::string switch_of_64() {
  std::string s = "KEEP int jump(int x, int y) { switch (x) {\n";
  for (int n = 0; n < 64; ++n) {
    s += "case " + std::to_string(n) + ": return g" + std::to_string(n % 3 + 1) + "(y * " +
         std::to_string(n * 7 + 3) + ") + " + std::to_string(n) + ";\n";
  }
  return s + "} return g1(1000); }\nKEEP int other(int x) { return g2(x); }\n";
}

std::vector<Pair> make_pairs() {
  std::vector<Pair> list;
  auto add = [&](Pair p) -> Pair& {
    list.push_back(std::move(p));
    return list.back();
  };

  const std::string table_switch = R"(
    KEEP int sw(int x) { switch (x) { case 0: return 7; case 1: return 91; case 2: return 55;
      case 3: return 19; case 4: return 212; case 5: return 33; case 6: return 8; default: return 0; } }
    KEEP int sw2(int x) { switch (x) { case 0: return 17; case 1: return 29; case 2: return 355;
      case 3: return 49; case 4: return 52; case 5: return 63; case 6: return 1; default: return 0; } })";
  add(edit("SwitchTable", table_switch, "return 55", "return 56", {"sw"}));

  const std::string arrays = R"(
    KEEP int first(int i) { int t[13] = {11,2,3,4,5,6,7,8,9,10,11,12,13}; use(t); return t[i]; }
    KEEP int second(int i) { int t[13] = {1,2,3,4,5,6,7,8,9,10,11,12,14}; use(t); return t[i]; })";
  add(edit("LocalArray", arrays, "4,5,6,7,8,9,10,11,12,14", "4,5,6,7,8,9,10,11,12,15", {"second"}));

  const std::string strings = R"(
    KEEP void narrow(void) { use("hello world %d\n"); }
    KEEP void same(void) { use("hello again %d\n"); }
    KEEP void wider(void) { use(L"wide string"); }
    KEEP void wider2(void) { use(L"wide strong"); }
    KEEP void inner(void) { use("abc\0def", 8); }
    KEEP void sixteen(void) { use(u"sixteen"); })";
  add(edit("String", strings, "hello world", "hello worlt", {"narrow"})).beside = {"same"};
  add(edit("WideString", strings, "wide string", "wide strung", {"wider"})).beside = {"wider2"};
  add(edit("Char16String", strings, "sixteen\"", "sixtean\"", {"sixteen"}));
  Pair& inner = add(edit("BytesAfterNul", strings, "\\0def", "\\0dex", {"inner"}));
  inner.beside = {"sixteen"};
  add(edit("StringUsedByTwo",
           "KEEP void a(void) { use(\"both\"); }\nKEEP void b(void) { use(\"both\"); }",
           "KEEP void b(void) { use(\"both\"", "KEEP void b(void) { use(\"none\"", {"b"}));

  add(edit("ConstantBesideMessage", R"(
    KEEP void warn(int x) { if (x) { use("file.c: warning", 17, x); } }
    KEEP void warn2(int x) { if (x) { use("file.c: warning", 18, x); } })",
           "17", "37", {"warn"}));

  const std::string floats = R"(
    KEEP double area(double r) { return r * r * 3.14159; }
    KEEP double length(double r) { return r * 6.28318; }
    KEEP float half(float x) { return x * 0.53f; }
    KEEP long double extended(long double x) { return x * 1.7L; })";
  add(edit("DoubleConstant", floats, "3.14159", "3.14160", {"area"}));
  add(edit("FloatConstant", floats, "0.53f", "0.54f", {"half"}));
  add(edit("LongDoubleConstant", floats, "1.7L", "1.8L", {"extended"}));

  const std::string tables = R"(
    static const int table[] = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9};
    KEEP int reader1(int i) { return table[i]; }
    KEEP int reader2(int i) { return table[i + 1] + g1(i); }
    KEEP int bystander(int i) { return g1(i); })";
  add(edit("ConstTable", tables, "9, 2, 6", "9, 2, 7", {"reader1", "reader2"})).included = {
      "table"};
  Pair unchanged_table = edit("ConstTableKept", tables, "g1(i); }\n    KEEP int by",
                              "g2(i); }\n    KEEP int by", {"reader2"});
  unchanged_table.bound = {"table", "g2"};
  add(unchanged_table);
  add(edit("ConstTableGrew", tables, "7, 9}", "7, 9, 3}", {"reader1", "reader2"}));
  add(refusal("ConstTableVisible", R"(
    const int table[] = {3, 1, 4, 1, 5, 9};
    KEEP int reader(int i) { return table[i]; })",
              "5, 9", "5, 8", {"reader"}, {"readonly-escapes"}));
  add(refusal("ConstTableEscapes", R"(
    static const int table[] = {3, 1, 4, 1, 5, 9};
    const int *keeper = table;
    KEEP int reader(int i) { return table[i]; })",
              "5, 9", "5, 8", {"reader"}, {"readonly-escapes", "initialiser-changed"}));
  add(edit("ConstTableOfStrings", R"(
    static const char *const names[] = {"red", "green", "blue"};
    KEEP const char *name(unsigned i) { use(names); return names[i % 3]; }
    KEEP int bystander(int i) { return g1(i); })",
           "\"blue\"", "\"brown\"", {"name"}));

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

  add(edit("SwitchOf64", switch_of_64(), "case 40: return g2(y * 283)",
           "case 40: return g2(y * 284)", {"jump"}));
  std::string reordered = switch_of_64();
  reordered = replaced(reordered, "case 8: return g3", "case 9 + 1000: return g3");
  add({"SwitchCaseGone", switch_of_64(), reordered, {"jump"}});

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
  add(edit("StaticLocalAddedLast", locals, "return g1(x);",
           "static int aaa = 8; return g1(x) + aaa--;", {"three"}));
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

  // New things.
  Pair& new_function = add(edit("NewStaticFunction", R"(
    KEEP int old(int x) { return g1(x); })",
                                "KEEP int old(int x) { return g1(x); }",
                                "KEEP static int helper(int x) { return g2(x) * 3; }\n"
                                "KEEP int old(int x) { return helper(g1(x)); }",
                                {"old"}));
  new_function.fresh = {"helper"};
  new_function.bound = {"g1", "g2"};
  Pair& new_global = add(edit("NewVariables", R"(
    KEEP int old(int x) { return g1(x); })",
                              "KEEP int old(int x) { return g1(x); }",
                              "int fresh = 4; static int quiet;\n"
                              "KEEP int old(int x) { use(&quiet); return g1(x) + fresh; }",
                              {"old"}));
  new_global.included = {"fresh", "quiet"};
  add(edit("NewString", "KEEP void f(void) { g1(1); }", "g1(1);", "use(\"brand new\");", {"f"}))
      .included = {"f", "…"};
  add(edit("FunctionRemoved",
           "KEEP int keep(int x) { return g1(x); }\nKEEP int gone(int x) { return g2(x); }",
           "KEEP int gone(int x) { return g2(x); }", "", {}))
      .removed = {"gone"};
  add(edit("StaticToGlobal", R"(
    KEEP static int moved(int x) { return g1(x) + 4; }
    KEEP int caller(int x) { return moved(x); })",
           "KEEP static int moved", "KEEP int moved", {}))
      // A global function begins with endbr64 there, or is called through the GOT: a real change.
      .where = [](const Compiler& c) {
    return !has_flag(c, "-fcf-protection=full") && !has_flag(c, "-fno-plt");
  };

  // Nothing at all.
  const std::string lines =
      "KEEP void f(int x) { use(\"line\", __LINE__); }\n"
      "KEEP void g(int x) { use(\"line\", __LINE__); }\n";
  add({"BlankLineWithLineDirective",
       "#line 10\n" + lines,
       "#line 10\n" +
           replaced(lines, "\nKEEP void g", "\n\n/* a comment */\n#line 11\nKEEP void g"),
       {}});
  add({"Same", strings + cold + locals + globals, strings + cold + locals + globals, {}});
  add({"FunctionsReordered",
       "KEEP int a(int x) { static int s; return s += g1(x); }\n"
       "KEEP int b(int x) { static int s = 3; use(\"b\", 1.5); return s -= g2(x); }",
       "KEEP int b(int x) { static int s = 3; use(\"b\", 1.5); return s -= g2(x); }\n"
       "KEEP int a(int x) { static int s; return s += g1(x); }",
       {}});

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

  // Thread-local and indirect.
  const std::string tls = R"(
    static __thread int mine = 3; __thread int shared;
    KEEP int touch(int x) { return mine += x; }
    KEEP int other(int x) { return g1(x) + shared; })";
  add(edit("ThreadLocal", tls, "mine += x", "mine -= x", {"touch"})).where = executable_only;
  add(edit("ThreadLocalUntouched", tls + "KEEP int last(int x) { return g3(x); }", "g3(x)", "g2(x)",
           {"last"}));
  Pair& new_tls = add(refusal("ThreadLocalNew", tls, "__thread int shared;",
                              "__thread int shared; static __thread int more;", {"touch"},
                              {"tls-unsupported"}));
  new_tls.patched = replaced(new_tls.patched, "mine += x", "mine += more++");
  add(refusal("ThreadLocalDynamic", tls, "mine += x", "mine -= x", {"touch"}, {"tls-unsupported"}))
      .where = [](const Compiler& c) { return has_flag(c, "-fPIC"); };
  const std::string ifunc = R"(
    KEEP static int fast(int x) { return g1(x); }
    KEEP static int slow(int x) { return g2(x); }
    static void *resolve(void) { return g3(0) ? (void *)fast : (void *)slow; }
    int chosen(int x) __attribute__((ifunc("resolve")));
    KEEP int other(int x) { return g1(x) + 1; })";
  add(edit("IfuncUntouched", ifunc, "g1(x) + 1", "g1(x) + 2", {"other"}));
  add(edit("IfuncImplementation", ifunc, "return g2(x)", "return g3(x)", {"slow"}));

  // Inlining: the callers change, not the helper that is nowhere by itself.
  add(edit("InlinedCallee", R"(
    static inline __attribute__((always_inline)) int twice(int x) { return g1(x) * 2; }
    KEEP int a(int x) { return twice(x); }
    KEEP int b(int x) { return twice(x + 1); }
    KEEP int c(int x) { return g2(x); })",
           "* 2", "* 3", {"a", "b"}));
  const std::string literals = R"(
    static const int *const shared = (const int[]){1, 2, 3};
    static int *const state = (int[]){7, 8};
    KEEP int reads(int i) { return shared[i] + g1(i); }
    KEEP int writes(int i) { return state[i & 1] += g2(i); }
    KEEP void makes(int i) { use((const int[]){4, 5, 6, i}, __func__); }
    KEEP void makes2(int i) { use((const int[]){4, 5, 7, i}, __func__); })";
  add(edit("CompoundLiteralLocal", literals, "4, 5, 7", "4, 5, 8", {"makes2"}));
  add(edit("CompoundLiteralUntouched", literals, "+ g1(i)", "+ g3(i)", {"reads"}));
  add(refusal("CompoundLiteralState", literals, "{7, 8}", "{7, 9}", {}, {"initialiser-changed"}));
  add(edit("Symver", R"(
    KEEP int old_version(int x) { return g1(x); }
    __asm__(".symver old_version,versioned@V1");
    KEEP int user(int x) { return old_version(x) * 3; })",
           "* 3", "* 5", {"user"}));
  add(edit("CalleeSwapped",
           "KEEP int f(int x) { return g1(x); }\nKEEP int h(int x) { return g2(x); }",
           "return g1(x)", "return g2(x)", {"f"}));
  add(edit("Weak", R"(
    __attribute__((weak)) KEEP int weakly(int x) { return g1(x); }
    int strongly(int x) __attribute__((alias("weakly")));
    KEEP int user(int x) { return strongly(x) + 1; })",
           "+ 1", "+ 2", {"user"}));
  return list;
}

const std::vector<Pair>& all_pairs() {
  static const std::vector<Pair> list = make_pairs();
  return list;
}

class Pairs : public testing::TestWithParam<size_t> {};

// Claim: exactly the expected units change, appear and vanish, the rest is included, bound or
// refused as expected, and every piece of a changed unit is included with it.
TEST_P(Pairs, Found) {
  const Pair& pair = all_pairs()[GetParam()];
  for (const Compiler& compiler : all_compilers()) {
    if (pair.where && !pair.where(compiler)) {
      continue;
    }
    SCOPED_TRACE(compiler.text());
    Outcome found = diff_objects(compile(compiler, kPrelude + pair.original),
                                 compile(compiler, kPrelude + pair.patched));
    Names changed = found.names(Fate::Changed);
    if (gcc_only(compiler) && has_flag(compiler, "-O0")) {
      for (const std::string& name : pair.beside) {
        changed.erase(name);
      }
    }
    EXPECT_EQ(changed, pair.changed);
    EXPECT_EQ(found.names(Fate::New), pair.fresh);
    EXPECT_EQ(found.names(Fate::Removed), pair.removed);
    EXPECT_EQ(found.refusal_ids(), pair.refused);
    Names included = found.included(), bound = found.bound();
    for (const std::string& name : pair.included) {
      EXPECT_TRUE(included.contains(name)) << name << " is not included";
    }
    for (const std::string& name : pair.bound) {
      EXPECT_TRUE(bound.contains(name)) << name << " is not bound";
    }
    for (const objdiff::Unit& u : found.diff.units) {
      for (elf::AtomId piece : u.patched_pieces) {
        EXPECT_EQ(u.fate != Fate::Same, included.contains(found.diff.patched.name_of(piece)));
      }
    }
    if (HasFailure()) {
      ADD_FAILURE() << found.text();
      return;
    }
  }
}

// Claim: without local labels the diff may find too much, but never too little.
TEST_P(Pairs, FoundWithoutLabels) {
  const Pair& pair = all_pairs()[GetParam()];
  for (const char* name : {"gcc-12", "clang-14"}) {
    for (const char* level : {"-O0", "-O2"}) {
      Compiler compiler{name, {level, "-fPIE"}};
      if (pair.where && !pair.where(compiler)) {
        continue;
      }
      SCOPED_TRACE(compiler.text());
      Outcome found = diff_objects(compile(compiler, kPrelude + pair.original, false),
                                   compile(compiler, kPrelude + pair.patched, false));
      Names changed = found.names(Fate::Changed), refused = found.refusal_ids();
      EXPECT_TRUE(
          std::includes(changed.begin(), changed.end(), pair.changed.begin(), pair.changed.end()))
          << found.text();
      EXPECT_TRUE(
          std::includes(refused.begin(), refused.end(), pair.refused.begin(), pair.refused.end()))
          << found.text();
      if (pair.changed.empty()) {
        EXPECT_EQ(changed, Names()) << found.text();
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(C, Pairs, testing::Range<size_t>(0, all_pairs().size()),
                         [](const auto& test) { return all_pairs()[test.param].name; });

}  // namespace
}  // namespace qp::pairs
