// Original and patched source, and what the diff must find, for two compilers, five levels of
// optimisation, with and without position independence, and with the flags of distributions
// (compilers_for). The table (*_pairs.cc) covers every way in which other
// differs are known to fail (docs/objdiff.md), the cases around static locals, and what must be
// refused.
//
// Sources keep functions apart with KEEP, since what an optimiser does across functions would make
// the expected set a matter of its mood.

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "objdiff/names.h"
#include "pair.h"

namespace qp::pairs {
namespace {

using objdiff::Fate;

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

const std::vector<Pair>& all_pairs() {
  static const std::vector<Pair> list = [] {
    std::vector<Pair> all;
    for (auto* topic : {content_pairs, code_pairs, state_pairs, name_pairs}) {
      for (Pair& p : topic()) {
        all.push_back(std::move(p));
      }
    }
    return all;
  }();
  return list;
}

// Variables that the patch brings along: "aaa" for aaa.1593 and for f.aaa.
Names new_state(const Outcome& found) {
  Names out;
  for (const objdiff::Inclusion& i : found.diff.included) {
    if (elf::is_writable(found.diff.patched.atoms[i.patched].storage)) {
      std::string name = objdiff::stem(found.diff.patched.name_of(i.patched));
      out.insert(name.substr(name.rfind('.') + 1));
    }
  }
  return out;
}

class Pairs : public testing::TestWithParam<size_t> {};

// Claim: exactly the expected units change, appear and vanish, the rest is included, bound or
// refused as expected, every piece of a changed unit is included with it, and no variable but the
// new ones. The original against itself is no change.
TEST_P(Pairs, Found) {
  const Pair& pair = all_pairs()[GetParam()];
  for (const Compiler& compiler : compilers_for(GetParam())) {
    if (pair.where && !pair.where(compiler)) {
      continue;
    }
    SCOPED_TRACE(compiler.text());
    Bytes original = compile(compiler, kPrelude + pair.original);
    Outcome same = diff_objects(original, original);
    EXPECT_TRUE(!same.diff.changed() && same.report.clean()) << same.text();
    Outcome found = diff_objects(std::move(original), compile(compiler, kPrelude + pair.patched));
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
    if (pair.refused.empty()) {
      EXPECT_EQ(new_state(found), pair.state);
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
  // GCC leaves nothing to go by; clang names most of its data.
  const char* level = GetParam() % 2 == 0 ? "-O0" : "-O2";
  for (const Compiler& compiler :
       {Compiler{"gcc-12", {"-O0", "-fPIE"}}, Compiler{"gcc-12", {"-O2", "-fPIE"}},
        Compiler{"clang-14", {level, "-fPIE"}}}) {
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

INSTANTIATE_TEST_SUITE_P(C, Pairs, testing::Range<size_t>(0, all_pairs().size()),
                         [](const auto& test) { return all_pairs()[test.param].name; });

}  // namespace
}  // namespace qp::pairs
