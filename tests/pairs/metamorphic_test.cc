// What must not be reported: the same code, written into the object in another way. The compiler's
// assembly is rewritten before it is assembled, so that nothing but the one thing changes.

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <regex>

#include "base/fd.h"
#include "base/subprocess.h"
#include "compiled.h"

namespace qp::pairs {
namespace {

const char* const kSource = R"(
extern int g(int); extern void use(const void *, ...);
extern void fail(const char *, ...) __attribute__((cold, noreturn));
static const int table[] = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9};
int total = 7; static int hidden;
#define KEEP __attribute__((noinline))
KEEP int one(int x) { static int calls; calls += x; return g(calls) + table[x & 15]; }
KEEP int two(int x) { static int calls = 5; calls -= x; use("two", &calls); return calls * 3; }
KEEP int three(int x) { static const int t[] = {1, 2, 3, 9}; use(t, __func__); return t[x & 3]; }
KEEP int work(int x) {
  if (__builtin_expect(x == 77, 0)) { fail("x is %d", x); }
  total += x * 3;
  if (__builtin_expect(x < 0, 0)) { use("negative", x); g(9); x = 5; }
  return g(x) + total + hidden++;
}
KEEP int jump(int x, int y) { switch (x) {
  case 0: return g(y); case 1: return g(y * 3) + 1; case 2: return g(y - 7); case 3: return y ^ 99;
  case 4: return g(y + 8) * 5; case 5: return g(3); case 6: return y * y; } return one(x) + two(y); }
KEEP double area(double r) { return r * r * 3.14159 + three((int)r); }
static KEEP int cloned(int x, int always) { static int seen; use("c", always); return seen += x * always; }
KEEP int clones(int x) { return cloned(x, 7) + cloned(g(x), 7) + cloned(x + 1, 7); }
void *hooks[] = {one, two, three};
)";

std::vector<Compiler> compilers() {
  return {{"gcc-12", {"-O2", "-fno-pie"}},
          {"gcc-12", {"-O0", "-fPIC"}},
          {"gcc-12", {"-O3", "-fPIE", "-fcf-protection=full"}},
          {"clang-14", {"-O2", "-fPIE"}},
          {"clang-14", {"-O0", "-fno-pie"}}};
}

using Rewrite = std::string (*)(const std::string&);

void expect_no_change(Rewrite rewrite) {
  int rewritten = 0;
  for (const Compiler& c : compilers()) {
    std::string text = assembly_of(c, kSource), other = rewrite(text);
    rewritten += text != other ? 1 : 0;
    Outcome found = diff_objects(assemble(text), assemble(other));
    EXPECT_FALSE(found.diff.changed()) << c.text() << "\n" << found.text();
    EXPECT_TRUE(found.names(objdiff::Fate::Removed).empty()) << c.text() << "\n" << found.text();
    EXPECT_TRUE(found.report.clean()) << c.text() << "\n" << found.text();
  }
  EXPECT_GE(rewritten, 3);  // there is nothing to align at -O0
}

// Numbers of static locals and of the compiler's own data, all of them others, in another order.
std::string renumbered(const std::string& text) {
  static const std::regex suffix(R"(\b([A-Za-z_]\w*)\.(\d+)\b)");
  std::string out;
  auto at = text.cbegin();
  for (std::sregex_iterator i(text.begin(), text.end(), suffix), end; i != end; ++i) {
    out.append(at, (*i)[0].first);
    out += (*i)[1].str() + "." + std::to_string(9000 - 7 * std::stoi((*i)[2]));
    at = (*i)[0].second;
  }
  return out.append(at, text.cend());
}

// Claim: the numbers that compilers put behind names mean nothing.
TEST(Metamorphic, Renumbered) {
  for (const Compiler& c : compilers()) {
    std::string text = assembly_of(c, kSource), other = renumbered(text);
    EXPECT_NE(text, other) << c.text();
    if (c.name == "gcc-12" && c.flags.front() == "-O2") {
      EXPECT_NE(text.find("cloned.constprop.0"), text.npos);
      EXPECT_NE(text.find("work.cold"), text.npos);
    }
    Outcome found = diff_objects(assemble(text), assemble(other));
    EXPECT_FALSE(found.diff.changed()) << c.text() << "\n" << found.text();
    EXPECT_TRUE(found.report.clean()) << c.text() << "\n" << found.text();
  }
}

// The pieces of each section stay in their order, the sections get another.
std::string shuffled(const std::string& text) {
  static const std::regex start(R"(\t\.(?:section\s+([^,\s]+)|(text|data|bss)).*)");
  std::vector<std::string> order;
  std::map<std::string, std::string> sections, headers = {{"text", "\t.text"}};
  std::string current = "text";
  size_t at = 0;
  while (at < text.size()) {
    size_t end = std::min(text.find('\n', at), text.size());
    std::string line = text.substr(at, end - at);
    at = end + 1;
    std::smatch match;
    if (std::regex_match(line, match, start)) {
      current = match[1].matched ? match[1] : match[2];
      headers.emplace(current, line);  // later ones leave the flags out
      continue;
    }
    if (!sections.contains(current)) {
      order.push_back(current);
    }
    sections[current] += line + "\n";
  }
  std::shuffle(order.begin(), order.end(), std::mt19937(5));
  std::string out;
  for (const std::string& name : order) {
    out += headers[name] + "\n" + sections[name];
  }
  return out;
}

// Claim: the order of sections and symbols means nothing.
TEST(Metamorphic, Shuffled) {
  expect_no_change(shuffled);
}

// Of code; a variable that needs more alignment than it has in the process is another matter.
std::string realigned(const std::string& text) {
  static const std::regex align(
      R"(\t\.p2align[ \t]+4[^\n]*(?=\n(?:\t\.(?:globl|p2align)[^\n]*\n)*(?:\t\.type[^\n]*@function|\.L)))");
  return std::regex_replace(text, align, "\t.p2align 6");
}

// Claim: more alignment, within functions and between them, means nothing.
TEST(Metamorphic, Realigned) {
  expect_no_change(realigned);
}

template <int kind>
std::string moved(const std::string& text) {
  static const char* const kinds[] = {"hot", "unlikely", "startup", "exit"};
  static const std::regex section(R"(\.text\.(one|two|jump|area)\b)");
  return std::regex_replace(text, section, std::string(".text.") + kinds[kind] + ".$1");
}

// Claim: a function that moves to the hot, unlikely, startup or exit text is the same.
TEST(Metamorphic, MovedToAnotherText) {
  expect_no_change(moved<0>);
  expect_no_change(moved<1>);
  expect_no_change(moved<2>);
  expect_no_change(moved<3>);
}

// Claim: an object that went through a tool is the same.
TEST(Metamorphic, WentThroughTools) {
  using Command = std::vector<std::string>;
  for (const Command& command :
       {Command{"ld", "-r", "in.o", "-o", "out.o"},
        Command{"objcopy", "--strip-debug", "in.o", "out.o"},
        Command{"objcopy", "--compress-debug-sections", "in.o", "out.o"}}) {
    for (Compiler c : compilers()) {
      c.flags.emplace_back("-g");
      Bytes object = compile(c, kSource);
      TempDir directory("qpatch-pairs");
      write_file(directory.path() / "in.o", object);
      RunOptions where;
      where.directory = directory.path();
      RunResult result = run(command, where);
      ASSERT_EQ(result.exit_code, 0) << result.err;
      Bytes other = read_file(directory.path() / "out.o");
      EXPECT_TRUE(object != other) << command[1];
      Outcome found = diff_objects(std::move(object), std::move(other));
      EXPECT_FALSE(found.diff.changed()) << command[0] << command[1] << c.text() << found.text();
      EXPECT_TRUE(found.report.clean()) << command[0] << command[1] << c.text() << found.text();
    }
  }
}

// Many NOPs in the middle of functions: jumps across it get wide, distances in tables change.
std::string stretched(const std::string& text) {
  static const std::regex label(R"((\n\.L(?:BB)?\d[\d_]*:[^\n]*\n)(?=\t[a-z]))");
  return std::regex_replace(text, label, "\n\t.rept 18\n\tnopw 512(%rax,%rax)\n\t.endr$1");
}

// Claim: wider jumps and other distances in tables mean nothing, as long as they lead to the same
// instructions.
TEST(Metamorphic, Stretched) {
  expect_no_change(stretched);
}

// Claim: debug information means nothing to code.
TEST(Metamorphic, DebugInformation) {
  for (const Compiler& c : compilers()) {
    Compiler with = c;
    with.flags.emplace_back("-g3");
    Outcome found = diff_objects(compile(c, kSource), compile(with, kSource));
    EXPECT_FALSE(found.diff.changed()) << c.text() << "\n" << found.text();
    EXPECT_TRUE(found.report.clean()) << c.text() << "\n" << found.text();
  }
}

// Claim: lines that move mean nothing if #line gives them their numbers back.
TEST(Metamorphic, LinesMoved) {
  std::string text =
      "#line 1\nextern void use(const char *, int);\n"
      "void f(void) { use(__FILE__, __LINE__); }\n"
      "void h(void) { use(\"h\", __LINE__ * 3); }\n";
  std::string moved = text;
  moved.insert(moved.find("void h"), "/* one\n more */\n\n#line 3\n");
  for (const Compiler& c : compilers()) {
    Outcome found = diff_objects(compile(c, text), compile(c, moved));
    EXPECT_FALSE(found.diff.changed()) << c.text() << "\n" << found.text();
  }
}

}  // namespace
}  // namespace qp::pairs
