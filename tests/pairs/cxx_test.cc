// C++ objects: groups, guards, unique symbols. Not everything can be patched, but what is untouched
// must be taken for untouched, and what can't be done must be refused by name.

#include <optional>

#include <gtest/gtest.h>

#include "compiled.h"

namespace qp::pairs {
namespace {

using objdiff::Fate;
using Names = std::set<std::string>;

const char* const kSource = R"(
int g(int);
template <class T> struct Box {
  T value;
  T get() const { static T calls; calls += 1; return value * 3 + calls; }
};
inline int &shared_counter() { static int counter; return counter; }
struct Guarded { Guarded(int); int n; };
__attribute__((noinline)) int untouched(int x) { Box<long> b{x}; return g(b.get()) + shared_counter()++; }
__attribute__((noinline)) int changed(int x) { Box<long> b{x}; return g(b.get()) + 7 + shared_counter(); }
__attribute__((noinline)) int guarded(int x) { static Guarded one(g(1)); return one.n + x; }
struct Shape { virtual int area(int x) { return g(x) * 2; } virtual ~Shape(); };
Shape::~Shape() { g(5); }
int use_shape(Shape *s) { return s->area(3); }
)";

std::vector<Compiler> compilers() {
  return {{"g++-12", {"-x", "c++", "-O2", "-fPIE"}},
          {"g++-12", {"-x", "c++", "-O0", "-fno-pie"}},
          {"clang++-14", {"-x", "c++", "-O2", "-fno-pie"}},
          {"clang++-14", {"-x", "c++", "-O0", "-fPIC"}}};
}

Outcome compared(const Compiler& c, const std::string& what, const std::string& with) {
  std::string patched = kSource;
  size_t at = patched.find(what);
  EXPECT_NE(at, std::string::npos) << what;
  patched.replace(at, what.size(), with);
  return diff_objects(compile(c, kSource), compile(c, patched));
}

// Claim: an object with groups, guards, unique symbols and vtables, compiled twice, has no changes.
TEST(Cxx, Same) {
  for (const Compiler& c : compilers()) {
    Outcome found = compared(c, "+ 7", "+ 7");
    EXPECT_FALSE(found.diff.changed()) << c.text() << "\n" << found.text();
    EXPECT_TRUE(found.report.clean()) << c.text() << "\n" << found.text();
  }
}

// Claim: a changed function keeps using the program's one copy of what its groups hold: the state
// of inline functions and templates is bound and never included.
TEST(Cxx, StateOfGroupsIsBound) {
  for (const Compiler& c : compilers()) {
    Outcome found = compared(c, "+ 7", "+ 8");
    EXPECT_EQ(found.names(Fate::Changed), Names{"_Z7changedi"}) << c.text() << "\n" << found.text();
    EXPECT_EQ(found.refusal_ids(), Names()) << c.text() << "\n" << found.text();
    Names included = found.included();
    EXPECT_FALSE(included.contains("_ZZ14shared_countervE7counter")) << c.text();
  }
}

// Claim: a guarded static local and its guard are both the program's.
TEST(Cxx, GuardIsBound) {
  for (const Compiler& c : compilers()) {
    Outcome found = compared(c, "one.n + x", "one.n - x");
    EXPECT_EQ(found.names(Fate::Changed), Names{"_Z7guardedi"}) << c.text() << "\n" << found.text();
    Names bound = found.bound(), included = found.included();
    for (const char* name : {"_ZZ7guardediE3one", "_ZGVZ7guardediE3one"}) {
      EXPECT_FALSE(included.contains(name)) << c.text() << " " << name;
      EXPECT_TRUE(bound.contains(name) || !found.report.clean()) << c.text() << "\n"
                                                                 << found.text();
    }
  }
}

// Claim: a change in an inline function or a template is refused by the id of groups, whether it was
// inlined (then its users change) or is called.
TEST(Cxx, ChangedGroupIsRefused) {
  for (const Compiler& c : compilers()) {
    for (const auto& [what, with] :
         {std::pair{"value * 3", "value * 5"}, std::pair{"return g(x) * 2", "return g(x) * 4"}}) {
      Outcome found = compared(c, what, with);
      EXPECT_TRUE(found.diff.changed()) << c.text() << " " << what;
      bool inlined = found.refusal_ids().empty() && std::string_view(what) == "value * 3";
      EXPECT_TRUE(inlined ? found.names(Fate::Changed).contains("_Z9untouchedi")
                          : found.refusal_ids().contains("comdat-unsupported"))
          << c.text() << "\n"
          << found.text();
    }
  }
}

// Refusal: coroutine-changed
// Claim: the body of a coroutine is not changed under those that are suspended, whether it gains a place to
// be suspended at, or only another number; what is beside it can be changed.
TEST(Cxx, CoroutineChanged) {
  const std::string source = R"(
#include <coroutine>
struct Task {
  struct promise_type {
    int value = 0;
    Task get_return_object() { return {std::coroutine_handle<promise_type>::from_promise(*this)}; }
    std::suspend_never initial_suspend() noexcept { return {}; }
    std::suspend_always final_suspend() noexcept { return {}; }
    std::suspend_always yield_value(int v) noexcept { value = v; return {}; }
    void return_void() {}
    void unhandled_exception() {}
  };
  std::coroutine_handle<promise_type> handle;
};
int g(int);
Task count(int from) {
  for (;;) {
    co_yield g(from);
    from += 3;
  }
}
__attribute__((noinline)) int beside(int x) { return g(x) + 7; }
)";
  for (const Compiler& c :
       {Compiler{"g++-12", {"-x", "c++", "-std=c++20", "-O2", "-fPIE"}},
        Compiler{"g++-12", {"-x", "c++", "-std=c++20", "-O0", "-fno-pie"}},
        Compiler{"clang++-14", {"-x", "c++", "-std=c++20", "-fcoroutines-ts", "-O2", "-fPIE"}},
        Compiler{"clang++-14",
                 {"-x", "c++", "-std=c++20", "-fcoroutines-ts", "-O0", "-fno-pie"}}}) {
    const auto with = [&](const std::string& what, const std::string& instead) {
      std::string patched = source;
      patched.replace(patched.find(what), what.size(), instead);
      return diff_objects(compile(c, source), compile(c, patched));
    };
    for (const char* instead : {"from += 4;", "co_yield 1; from += 3;"}) {
      const Outcome found = with("from += 3;", instead);
      EXPECT_TRUE(found.refusal_ids().contains("coroutine-changed")) << c.text() << "\n"
                                                                     << found.text();
    }
    const Outcome found = with("+ 7", "+ 8");
    EXPECT_EQ(found.names(Fate::Changed), Names{"_Z6besidei"}) << c.text() << "\n" << found.text();
    EXPECT_FALSE(found.refusal_ids().contains("coroutine-changed")) << found.text();
  }
}

// Claim: a virtual function that moves in the vtable is refused, never silent.
TEST(Cxx, VtableChanged) {
  for (const Compiler& c : compilers()) {
    Outcome found = compared(c, "virtual int area(int x)",
                             "virtual int first() { return 1; } virtual int area(int x)");
    EXPECT_FALSE(found.report.clean()) << c.text() << "\n" << found.text();
  }
}

const char* const kCounted = R"(
struct Made { Made(int); int v; }; void use(void *, const char *); int g(int);
using function = int (*)(int); extern function kept[4];
__attribute__((noinline)) int plain(int x) {
  if (x > 3) { static int seen; use(&seen, "a"); }
  x = g(x);
  if (x < 3) { static int seen; use(&seen, "b"); }
  return x;
}
__attribute__((noinline)) int made(int x) {
  if (x > 3) { static Made one(1); return one.v; }
  static Made one(2);
  return one.v + x;
}
__attribute__((noinline)) void keep(int x) {
  kept[0] = [](int y) { return g(y) + 1; };
  kept[1] = [](int y) { return g(y) * 2; };
  g(x);
}
)";

Outcome counted(const Compiler& c, const std::string& what, const std::string& with) {
  std::string patched = kCounted;
  patched.replace(patched.find(what), what.size(), with);
  return diff_objects(compile(c, kCounted), compile(c, patched));
}

std::optional<std::string> successor(const Outcome& found, const std::string& name) {
  for (elf::AtomId id = 0; id < found.diff.original.atoms.size(); ++id) {
    if (found.diff.original.name_of(id) == name && found.diff.patched_of[id]) {
      return found.diff.patched.name_of(*found.diff.patched_of[id]);
    }
  }
  return std::nullopt;
}

// Claim: when a static local of the same name is added before another, which takes over its mangled
// name, the state of the one is not handed to the other: it is refused.
TEST(Cxx, StaticLocalTakesOverAName) {
  for (const Compiler& c : compilers()) {
    Outcome found = counted(c, "  if (x > 3) { static int seen; use(&seen, \"a\"); }",
                            "  if (x == 5) { static int seen; use(&seen, \"new\"); }\n"
                            "  if (x > 3) { static int seen; use(&seen, \"a\"); }");
    EXPECT_EQ(found.names(Fate::Changed), Names{"_Z5plaini"}) << c.text() << "\n" << found.text();
    EXPECT_EQ(found.refusal_ids(), Names{"state-ambiguous"}) << c.text() << "\n" << found.text();
    EXPECT_EQ(successor(found, "_ZZ5plainiE4seen"), std::nullopt) << c.text();
    found = counted(c, "  if (x > 3) { static Made one(1); return one.v; }",
                    "  if (x == 5) { static Made one(0); return one.v; }\n"
                    "  if (x > 3) { static Made one(1); return one.v; }");
    EXPECT_TRUE(found.refusal_ids().contains("state-ambiguous")) << c.text() << found.text();
    EXPECT_EQ(successor(found, "_ZGVZ4madeiE3one"), std::nullopt) << c.text();
  }
}

// Claim: in unchanged functions they keep their state; in changed ones, with debug information, too,
// and a guard goes with its variable.
TEST(Cxx, CountedStaticLocalsKeepTheirState) {
  for (Compiler c : compilers()) {
    Outcome found = counted(c, "return one.v + x", "return x + one.v");
    EXPECT_FALSE(found.names(Fate::Changed).contains("_Z5plaini")) << c.text() << found.text();
    EXPECT_EQ(successor(found, "_ZZ5plainiE4seen"), "_ZZ5plainiE4seen") << c.text();
    EXPECT_EQ(successor(found, "_ZZ5plainiE4seen_0"), "_ZZ5plainiE4seen_0") << c.text();
    c.flags.emplace_back("-g");
    found = counted(c, "one.v + x", "one.v - x");
    EXPECT_EQ(found.names(Fate::Changed), Names{"_Z4madei"}) << c.text() << "\n" << found.text();
    EXPECT_TRUE(found.report.clean()) << c.text() << "\n" << found.text();
    for (const char* name : {"_ZZ4madeiE3one", "_ZZ4madeiE3one_0", "_ZGVZ4madeiE3one",
                             "_ZGVZ4madeiE3one_0", "_ZZ5plainiE4seen", "_ZZ5plainiE4seen_0"}) {
      EXPECT_EQ(successor(found, name), name) << c.text();
    }
  }
}

// Claim: lambdas are the same when nothing changed, and a changed one is found, by itself.
TEST(Cxx, LambdaChanged) {
  for (const Compiler& c : compilers()) {
    Outcome found = counted(c, "g(y) * 2", "g(y) * 3");
    EXPECT_EQ(found.names(Fate::Changed).size(), 1u) << c.text() << "\n" << found.text();
    EXPECT_EQ(found.names(Fate::New), Names()) << c.text() << "\n" << found.text();
    EXPECT_TRUE(found.report.clean()) << c.text() << "\n" << found.text();
    EXPECT_FALSE(counted(c, "g(x)", "g(x)").diff.changed()) << c.text();
  }
}

// Claim: a lambda that is added before others does not take over the pointers to them that the
// process holds.
TEST(Cxx, LambdaTakesOverAName) {
  for (const Compiler& c : compilers()) {
    Outcome found =
        counted(c, "  kept[0] =", "  kept[2] = [](int y) { return g(y) - 77; };\n  kept[0] =");
    bool gcc = c.name == "g++-12";
    EXPECT_TRUE(found.names(Fate::Changed).contains("_Z4keepi")) << found.text();
    for (const objdiff::Unit& u : found.diff.units) {
      // What the pointers lead to; the conversion that makes them is only called.
      bool kept = u.name.find(gcc ? "_FUN" : "__invoke") != std::string::npos;
      bool other =
          kept && u.original && u.patched &&
          found.diff.original.name_of(*u.original) == found.diff.patched.name_of(*u.patched);
      EXPECT_FALSE(other) << c.text() << " " << u.name << "\n" << found.text();
    }
  }
}

const char* const kThrows = R"(
int g(int);
__attribute__((noinline)) int first(int x) { try { return g(x); } catch (int y) { return y; } }
__attribute__((noinline)) int second(int x) { try { return g(x) + g(3); } catch (...) { return 5; } }
)";

// Claim: the unwind entry of a changed function travels with its table and personality, so that a
// throw finds its way through it.
TEST(Cxx, UnwindInformationTravels) {
  for (const Compiler& c : compilers()) {
    std::string patched = kThrows;
    patched.replace(patched.find("return y;"), 9, "return y * 7;");
    Outcome found = diff_objects(compile(c, kThrows), compile(c, patched));
    EXPECT_EQ(found.names(Fate::Changed), Names{"_Z5firsti"}) << c.text() << "\n" << found.text();
    size_t tables = 0;
    for (const objdiff::Inclusion& i : found.diff.included) {
      for (const elf::FrameEntry& f : found.diff.patched.atoms[i.patched].frames) {
        EXPECT_TRUE(f.personality) << c.text();
        ASSERT_TRUE(f.lsda) << c.text();
        auto table = found.diff.patched.symbols[f.lsda->symbol].atom;
        for (const objdiff::Inclusion& also : found.diff.included) {
          tables += table == also.patched ? 1 : 0;
        }
      }
    }
    EXPECT_GE(tables, 1u) << c.text() << "\n" << found.text();
  }
}

// Claim: another function with landing pads renumbers the tables of clang, and that means nothing.
TEST(Cxx, UnwindTablesRenumbered) {
  for (const Compiler& c : compilers()) {
    std::string patched = kThrows;
    patched.insert(
        patched.find("__attribute__"),
        "__attribute__((noinline)) int zero(int x) { try { return g(x) - g(9) * g(4); }\n"
        "  catch (long y) { return y; } catch (...) { return 1; } }\n");
    Outcome found = diff_objects(compile(c, kThrows), compile(c, patched));
    EXPECT_EQ(found.names(Fate::Changed), Names()) << c.text() << "\n" << found.text();
    EXPECT_EQ(found.names(Fate::New), Names{"_Z4zeroi"}) << c.text() << "\n" << found.text();
  }
}

// Claim: a unique symbol (one in the whole process) is bound and never brought along; an instance
// of a template that is new is refused.
TEST(Cxx, UniqueAndNewInstances) {
  const char* source = R"(
    template <class T> struct Count { static T n; }; template <class T> T Count<T>::n = 3;
    template <class T> inline T &counted() { static T here = 4; return here; }
    int user(int x) { return x + Count<int>::n + counted<int>()++; })";
  for (const Compiler& c : compilers()) {
    std::string changed = source, fresh = source;
    changed.replace(changed.find("return x +"), 10, "return x -");
    fresh.replace(fresh.find("return x +"), 10, "return x + (int)Count<long>::n +");
    Bytes original = compile(c, source);
    Outcome bound = diff_objects(original, compile(c, changed));
    EXPECT_EQ(bound.names(Fate::Changed), Names{"_Z4useri"}) << c.text() << "\n" << bound.text();
    EXPECT_TRUE(bound.report.clean()) << c.text() << "\n" << bound.text();
    EXPECT_TRUE(bound.bound().contains("_ZN5CountIiE1nE")) << c.text() << "\n" << bound.text();
    bool unique = false;
    for (const elf::AtomSymbol& s : bound.diff.patched.symbols) {
      unique = unique || s.bind == elf::SymbolBind::GnuUnique;
    }
    EXPECT_EQ(unique, c.name == "g++-12");
    EXPECT_EQ(diff_objects(original, compile(c, fresh)).refusal_ids(), Names{"comdat-unsupported"})
        << c.text();
  }
}

}  // namespace
}  // namespace qp::pairs
