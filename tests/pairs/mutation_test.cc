// Flips bits of real objects and demands that the right one is blamed. Seeded, so a failure repeats.
//
// A mutant is an object in which one bit of code, data or unwind information, or one relocation's
// addend, type or symbol, differs (mutator.h). Its diff with the original must report as changed a
// unit that holds the difference or can read it, and no other unit; or refuse, naming one of these
// or the data. An object that can't be read any more is fine too.

#include <gtest/gtest.h>

#include <algorithm>

#include <fmt/format.h>

#include "base/error.h"
#include "compiled.h"
#include "mutator.h"

namespace qp::pairs {
namespace {

const char* const kPlain = R"(
#define KEEP __attribute__((noinline))
extern int g1(int), g2(int), g3(int);
extern void use(const void *, ...);
extern void fail(const char *, ...) __attribute__((cold, noreturn));
int counter = 5; static int hidden = 7; char *message = "text"; int list[4] = {1, 2, 3, 4};
struct op { int (*f)(int); const char *name; };
static const struct op ops[] = {{g1, "first"}, {g2, "second"}, {g3, "third"}};
static const char *const names[] = {"red", "green", "blue", "white"};
static const int table[] = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9};
KEEP int values(int x) { switch (x) { case 0: return 7; case 1: return 91; case 2: return 55; case 3:
  return 19; case 4: return 212; case 5: return 33; case 6: return 8; default: return 0; } }
KEEP int jumps(int x, int y) { switch (x) { case 0: return g1(y); case 1: return g2(y + 1); case 2:
  return g3(y + 2); case 3: return g1(y + 3) + 1; case 4: return g2(y * 4); case 5: return g3(y * 5) + 5;
  case 6: use("six"); return 6; default: return -1; } }
KEEP int work(int x) {
  if (__builtin_expect(x == 77, 0)) { fail("x %d", x); }
  counter += x * 3;
  if (__builtin_expect(x < 0, 0)) { use("negative", x); g3(9); x = 5; }
  for (int i = 0; i < x; ++i) { list[i & 3] += table[i % 15]; if (list[i & 3] == 9) { g1(i); } }
  return g1(x) + counter;
}
KEEP double area(double r, float s) { return r * r * 3.14159 + s * 0.53f; }
KEEP int arrays(int i) { int t[13] = {11,2,3,4,5,6,7,8,9,10,11,12,13}; use(t); return t[i]; }
KEEP const char *name(unsigned i) { use(names); return names[i % 4]; }
KEEP int call(unsigned i, int x) { use(ops[i % 3].name, L"wide"); return ops[i % 3].f(x); }
KEEP int locals(int x) { static int aaa; return ++aaa + hidden--; }
KEEP int locals2(int x) { static int aaa = 5; use("abc\0def", 8, message); return aaa += 2; }
KEEP int computed(int i) { static void *const labels[] = {&&a, &&b, &&c};
  goto *labels[i]; a: return g1(7); b: return g2(8); c: return g3(9); }
)";

// Threads, indirect functions, start and exit, aliases, several widths of strings.
const char* const kSpecial = R"(
#define KEEP __attribute__((noinline))
extern int g1(int), g2(int), g3(int);
extern void use(const void *, ...);
static __thread int mine = 3; __thread int shared_by_threads;
KEEP int touch(int x) { return mine += x + shared_by_threads; }
KEEP static int fast(int x) { return g1(x); }
KEEP static int slow(int x) { return g2(x); }
static void *resolve(void) { return g3(0) ? (void *)fast : (void *)slow; }
int chosen(int x) __attribute__((ifunc("resolve")));
static int began;
__attribute__((constructor)) static void start(void) { began = g1(0); use(L"began", u"too", 1); }
__attribute__((destructor)) static void finish(void) { began -= g2(1); }
__attribute__((weak)) KEEP int weakly(int x) { return g1(x) + began; }
int strongly(int x) __attribute__((alias("weakly")));
struct list { const struct list *next; const char *name; int value; };
static const struct list third = {0, "third", 3}, second = {&third, "second", 2};
static const struct list ring[2] = {{&ring[1], "ping", 5}, {&ring[0], "pong", 6}};
KEEP int walk(int n) { const struct list *at = n & 1 ? &second : ring; int sum = 0;
  while (at && n--) { use(at->name); sum += at->value; at = at->next; } return sum; }
struct { char tag; long long wide; unsigned bits : 5; } record = {'x', 1LL << 40, 17};
static char *const ends[] = {(char *)&record + sizeof record, (char *)&record};
KEEP int over(int x) { use(ends[x & 1], &record, __func__); return record.bits + strongly(x); }
__attribute__((cold)) KEEP int rarely(int x) { return chosen(x) * 7; }
__attribute__((hot)) KEEP long double often(long double x) { return x * 1.7L + rarely((int)x); }
typedef float four __attribute__((vector_size(16)));
KEEP four vector(four a) { return a * (four){1, 2, 3, 4} + (four){.5f, .25f, .5f, .25f}; }
)";

// Unwind tables with landing pads, groups, vtables, guards.
const char* const kCxx = R"(
int g(int); void use(const char *);
struct Held { Held(int); ~Held(); int n; };
template <class T> struct Box { T value; T get() const { static T calls; calls += 1; return value * 3 + calls; } };
inline int &shared_counter() { static int counter; return counter; }
__attribute__((noinline)) int guarded(int x) { static Held one(g(1)); return one.n + x; }
__attribute__((noinline)) int caught(int x) {
  Held a(x);
  try { Held b(g(x)); use("trying"); if (b.n == 9) { throw x; } return a.n + b.n; }
  catch (int y) { use("caught"); return y * 5 + shared_counter()++; }
  catch (const char *) { return 3; }
}
struct Shape { virtual int area(int x) { return g(x) * 2; } virtual ~Shape(); int n = 4; };
Shape::~Shape() { g(5); }
int use_shape(Shape *s) { Box<long> b{7}; return s->area(3) + (int)b.get() + dynamic_cast<Shape *>(s)->n; }
namespace { struct Local : Shape { int area(int x) override { return g(x) - 1; } }; }
Shape *make() { return new Local; }
)";

struct Case {
  const char* name;
  const char* source;
  Compiler compiler;
};

std::vector<Case> cases() {
  std::vector<Case> list;
  for (const auto& [name, source] : {std::pair{"Plain", kPlain}, std::pair{"Special", kSpecial}}) {
    for (const Compiler& c :
         {Compiler{"gcc-12", {"-O2", "-fno-pie"}}, Compiler{"gcc-12", {"-O0", "-fPIC"}},
          Compiler{"gcc-12", {"-O3", "-fPIC", "-fno-plt"}},
          Compiler{"gcc-12", {"-Os", "-fPIE", "-fcf-protection=full"}},
          Compiler{"gcc-12", {"-O2", "-fno-pie", "-mcmodel=medium", "-mlarge-data-threshold=8"}},
          Compiler{"clang-14", {"-O3", "-fPIC"}}, Compiler{"clang-14", {"-Os", "-fno-pie"}},
          Compiler{"clang-14", {"-O2", "-fPIE"}}, Compiler{"clang-14", {"-O0", "-fno-pie"}}}) {
      list.push_back({name, source, c});
    }
  }
  for (const char* level : {"-O0", "-O2"}) {
    list.push_back({"Cxx", kCxx, {"g++-12", {"-x", "c++", level, "-fPIE"}}});
    list.push_back({"Cxx", kCxx, {"clang++-14", {"-x", "c++", level, "-fno-pie"}}});
  }
  return list;
}

bool names_it(const Refusal& r, const Mutant& mutant) {
  auto among = [&](const std::set<std::string>& names) {
    return std::any_of(names.begin(), names.end(), [&](const std::string& name) {
      return !name.empty() && (r.where == name || r.where.starts_with(name + "+0x"));
    });
  };
  bool frame = r.where.starts_with(".eh_frame, ") && mutant.names.contains(".eh_frame");
  bool unnamed = r.where.starts_with("\"") || r.where.starts_with("constant ") ||
                 r.where.starts_with("jump table of ");
  for (const std::string& name : mutant.names) {
    unnamed = unnamed || (name.starts_with('.') && r.where.find(" of " + name) != r.where.npos);
  }
  return among(mutant.units) || among(mutant.names) || frame || (mutant.anonymous && unnamed);
}

// "" if the diff found what it should.
std::string missed(const Bytes& original, const Mutant& mutant) {
  Outcome found;
  try {
    found = diff_objects(original, mutant.object);
  } catch (const Error&) {
    return "";  // no object any more
  }
  const auto& refusals = found.report.refusals();
  bool refused = std::any_of(refusals.begin(), refusals.end(),
                             [&](const Refusal& r) { return names_it(r, mutant); });
  bool blamed = false;
  for (const objdiff::Unit& u : found.diff.units) {
    if (u.fate == objdiff::Fate::Same) {
      continue;
    }
    bool right = mutant.units.contains(u.name);
    for (elf::AtomId piece : u.original_pieces) {
      right = right || mutant.units.contains(found.diff.original.name_of(piece));
    }
    blamed = blamed || right;
    if (!right && found.report.clean()) {
      return "another unit was found:\n" + found.text();
    }
  }
  return blamed || refused ? "" : "not noticed:\n" + found.text();
}

class Mutation : public testing::TestWithParam<size_t> {};

// Claim: every mutant of an object is found, in the unit that was changed, and in no other.
TEST_P(Mutation, IsFound) {
  Case c = cases()[GetParam()];
  Bytes original = compile(c.compiler, c.source);
  ASSERT_EQ(missed(original, {original, "", {"any"}, {}}), "not noticed:\n");
  for (uint64_t seed : {20240229, 7, 1815}) {
    Mutator mutator(original, seed + GetParam());
    int tried = 0;
    for (int n = 0; n < 1200 && tried < 500; ++n) {
      if (auto mutant = mutator.next()) {
        ++tried;
        EXPECT_EQ(missed(original, *mutant), "") << c.compiler.text() << ": " << mutant->what;
      }
    }
    EXPECT_GE(tried, 400);
  }
}

INSTANTIATE_TEST_SUITE_P(C, Mutation, testing::Range<size_t>(0, cases().size()),
                         [](const auto& test) {
                           return fmt::format("{}{}", cases()[test.param].name, test.param);
                         });

}  // namespace
}  // namespace qp::pairs
