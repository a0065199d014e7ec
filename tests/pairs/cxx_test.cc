// C++ objects: groups, guards, unique symbols. Not everything can be patched, but what is untouched
// must be taken for untouched, and what can't be done must be refused by name.

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

// Claim: a virtual function that moves in the vtable is refused, never silent.
TEST(Cxx, VtableChanged) {
  for (const Compiler& c : compilers()) {
    Outcome found = compared(c, "virtual int area(int x)",
                             "virtual int first() { return 1; } virtual int area(int x)");
    EXPECT_FALSE(found.report.clean()) << c.text() << "\n" << found.text();
  }
}

}  // namespace
}  // namespace qp::pairs
