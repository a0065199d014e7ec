// Targets without names: what was found is compared with the unstripped twin.
#include <gtest/gtest.h>

#include <random>

#include "corpus.h"
#include "match/bind.h"
#include "programs.h"

namespace qp::match {
namespace {

Recipe pie() {
  return {"gcc-12", {"-O2", "-fPIE"}, {"-pie"}, "bfd"};
}

struct Tally {
  size_t located = 0, wrong = 0, ambiguous = 0, refused = 0;
};

std::optional<LinkAddr> truth_of(const Program& program, const elf::AtomSymbol& symbol,
                                 const std::string& path) {
  return program.truth(symbol.name, symbol.bind == elf::SymbolBind::Local ? path : "");
}

// Every function of the object is asked for, and every binding that comes out is checked.
Tally ask_for_all(const Program& program, const std::string& path, const Target& target) {
  const elf::AtomGraph graph = program.original(path);
  Report report;
  const Matched matched = match(graph, all_functions(graph), {}, target, report);
  Tally tally;
  for (const ReplacedUnit& unit : matched.replaced) {
    const elf::AtomSymbol& symbol = graph.symbol_of(unit.function);
    if (unit.ranges.empty()) {
      ++tally.refused;
    } else if (unit.entry == truth_of(program, symbol, path)) {
      ++tally.located;
    } else {
      ++tally.wrong;
      ADD_FAILURE() << path << " " << symbol.name << " is not at " << std::hex << unit.entry.value;
    }
  }
  for (const Refusal& refusal : report.refusals()) {
    tally.ambiguous += refusal.id == "symbol-ambiguous" || refusal.id == "unconfirmed" ? 1 : 0;
  }
  tally.refused -= tally.ambiguous;
  for (elf::AtomSymbolId id = 0; id < graph.symbols.size(); ++id) {
    const elf::AtomSymbol& symbol = graph.symbols[id];
    if (matched.bindings[id].kind != elf::BindingKind::Address || symbol.anonymous) {
      continue;
    }
    const auto truth = truth_of(program, symbol, path);
    if (truth && matched.bindings[id].address != *truth) {
      ++tally.wrong;
      ADD_FAILURE() << path << " " << symbol.name;
    }
  }
  return tally;
}

Tally ask_for_all(const Program& program, const std::map<std::string, std::string>& sources) {
  Tally all;
  for (const auto& [path, text] : sources) {
    const Tally tally = ask_for_all(program, path, program.target());
    all.located += tally.located;
    all.wrong += tally.wrong;
    all.ambiguous += tally.ambiguous;
    all.refused += tally.refused;
  }
  return all;
}

class Stripped : public testing::TestWithParam<Recipe> {};

// Claim: without a symbol table the functions are found, and none at a wrong place.
TEST_P(Stripped, EverythingIsFoundAndNothingIsWrong) {
  Program program(corpus(), GetParam());
  program.strip();
  ASSERT_FALSE(program.symbols().has_symtab());
  const Tally tally = ask_for_all(program, corpus());
  EXPECT_EQ(tally.wrong, 0u);
  EXPECT_GE(tally.located, 290u) << tally.ambiguous << " ambiguous, " << tally.refused
                                 << " refused";
}

INSTANTIATE_TEST_SUITE_P(
    Recipes, Stripped,
    testing::Values(Recipe{"gcc-12", {"-O2", "-fPIE"}, {"-pie"}, "bfd"},
                    Recipe{"gcc-12", {"-O2", "-fno-pie"}, {"-no-pie", "-Wl,-z,now"}, "lld"},
                    Recipe{"gcc-12", {"-Os", "-fPIE", "-fcf-protection"}, {"-pie"}, "bfd"},
                    Recipe{"gcc-12", {"-O3", "-fPIE", "-fno-plt"}, {"-pie"}, "gold"},
                    Recipe{"gcc-12", {"-O0", "-fPIE"}, {"-pie"}, "bfd"},
                    Recipe{"clang-14", {"-O2", "-fPIE"}, {"-pie"}, "lld"}));

// Claim: a function of which the target has another version is not taken for its twin in another
// file, wherever a single byte of it was changed.
TEST(StrippedTwins, AChangedFunctionIsNotFoundElsewhere) {
  Program program(corpus(), pie());
  const elf::AtomGraph graph = program.original("g1.c");
  program.strip();
  const std::vector<elf::AtomId> functions = all_functions(graph);
  std::mt19937 random(7);
  size_t refused = 0;
  constexpr int kRounds = 60;
  for (int round = 0; round < kRounds; ++round) {
    const elf::AtomId id = functions[random() % functions.size()];
    const auto truth = truth_of(program, graph.symbol_of(id), "g1.c");
    ASSERT_TRUE(truth);
    ChangedReader changed(program.memory());
    changed.change(*truth + random() % graph.atoms[id].size, uint8_t{1} << random() % 8);
    const Target target{changed, program.symbols(), program.file().tls_block_end()};
    Report report;
    const Matched matched = match(graph, {id}, {}, target, report);
    if (matched.replaced[0].ranges.empty()) {
      ++refused;
      EXPECT_FALSE(report.clean());
    } else {
      // The byte was one that does not count: padding, or the encoding of the same instruction.
      EXPECT_EQ(matched.replaced[0].entry, *truth) << graph.name_of(id);
    }
  }
  EXPECT_GE(refused, kRounds * 3 / 4u);
}

// Two files with the same code, each with state and a helper of its own.
std::string account(const std::string& which, int fee) {
  return fmt::format(
      "static long balance{0}, calls{0};\n"
      "__attribute__((noinline)) static long fee{0}(long x) {{ calls{0}++; return x * 3 + {1}; }}\n"
      "long deposit{0}(long x) {{ balance{0} += x - fee{0}(x); return balance{0} ^ 0x5a5a; }}\n"
      "long history{0}(long x) {{ return calls{0} * 1000003 + x; }}\n",
      which, fee);
}
std::map<std::string, std::string> accounts(int fee_a, int fee_b) {
  return {{"a.c", account("A", fee_a)},
          {"b.c", account("B", fee_b)},
          {"main.c",
           "long depositA(long), depositB(long), historyA(long), historyB(long);\n"
           "int main(int c, char** v) { return depositA(c) + depositB(c) + historyA(c) + "
           "historyB(c); }\n"}};
}

// Claim: the twin of a file that the target has in another version is not taken for the file.
TEST(StrippedTwins, OtherVersionBesideATwin) {
  const Program original(accounts(7, 7), pie());
  Program target(accounts(8, 7), pie());
  target.strip();
  const elf::AtomGraph graph = original.original("a.c");
  Report report;
  const Matched matched = match(graph, {function(graph, "feeA")}, {}, target.target(), report);
  EXPECT_TRUE(matched.replaced[0].ranges.empty()) << std::hex << matched.replaced[0].entry.value;
  EXPECT_FALSE(report.clean());
}

// Claim: two files of equal code are ambiguous, as long as nobody who calls them was looked at.
TEST(StrippedTwins, BothThere) {
  Program program(accounts(7, 7), pie());
  program.strip();
  const elf::AtomGraph graph = program.original("a.c");
  Report report;
  const Matched matched = match(graph, {function(graph, "feeA")}, {}, program.target(), report);
  EXPECT_TRUE(matched.replaced[0].ranges.empty());
  ASSERT_EQ(report.refusals().size(), 1u) << ids_of(report);
  EXPECT_EQ(report.refusals()[0].id, "symbol-ambiguous");
}

// Refusal: unconfirmed
// Claim: one place is not enough, if nothing but the function's own code speaks for it.
TEST(Unconfirmed, AFunctionAlone) {
  Program program(
      {{"a.c",
        "int checksum(const char* s) { int h = 7; while (*s) h = h * 31 + *s++ - 0x1234; "
        "return h; }"},
       {"main.c", "int checksum(const char*); int main(int c, char** v) { return checksum(*v); }"}},
      pie());
  program.strip();
  const elf::AtomGraph graph = program.original("a.c");
  Report report;
  const Matched matched = match(graph, {function(graph, "checksum")}, {}, program.target(), report);
  EXPECT_TRUE(matched.replaced[0].ranges.empty());
  ASSERT_EQ(report.refusals().size(), 1u);
  EXPECT_EQ(report.refusals()[0].id, "unconfirmed") << ids_of(report);
}

// Claim: main has a name in every program, and confirms what it calls.
TEST(EntryPoint, NamesMain) {
  for (const char* kind : {"-pie", "-no-pie"}) {
    const std::string compile = std::string(kind) == "-pie" ? "-fPIE" : "-fno-pie";
    Program program(
        {{"main.c",
          "static int calls; __attribute__((noinline)) static int next(int x) { return "
          "x * 77 + ++calls; } int main(int c, char** v) { return next(c) + next(7); }"}},
        {"gcc-12", {"-O2", compile}, {kind}, "bfd"});
    program.strip();
    const auto named = program.symbols().named("main");
    ASSERT_EQ(named.size(), 1u) << kind;
    EXPECT_EQ(named[0]->address, *program.truth("main"));
    const elf::AtomGraph graph = program.original("main.c");
    Report report;
    const Matched matched = match(graph, {function(graph, "next")}, {}, program.target(), report);
    EXPECT_TRUE(report.clean()) << ids_of(report);
    EXPECT_EQ(matched.replaced[0].entry, *program.truth("next"));
  }
}

// Claim: what .dynsym still names is found by name, and confirms the rest.
TEST(ExportedNames, AreUsed) {
  Program program(accounts(7, 7), {"gcc-12", {"-O2", "-fPIE"}, {"-pie", "-rdynamic"}, "bfd"});
  program.strip();
  for (const std::string which : {"A", "B"}) {
    const elf::AtomGraph graph = program.original(which == "A" ? "a.c" : "b.c");
    Report report;
    const Matched matched =
        match(graph, {function(graph, "fee" + which)}, {}, program.target(), report);
    EXPECT_TRUE(report.clean()) << ids_of(report);
    EXPECT_EQ(matched.replaced[0].entry, *program.truth("fee" + which));
  }
}

// Claim: twins that lie side by side are told apart by the room between their neighbours, and
// functions that are too short to be searched for are found there.
TEST(Neighbours, FillTheRoom) {
  const std::string twins =
      "extern int state; int first(int x) { state += x * 12345; return state; }\n"
      "int twin1(int x) { return x * 99 + 5; }\n"
      "int twin2(int x) { return x * 99 + 5; }\n"
      "void nothing(void) {}\n"
      "int last(int x) { return state ^= x * 54321; }\n"
      "int state = 3;\n";
  Program program({{"a.c", twins},
                   {"main.c",
                    "int first(int), twin1(int), twin2(int), last(int); void nothing(void);\n"
                    "int other(int x) { return x * 99 + 5; }\n"
                    "int main(int c, char** v) { nothing(); return first(c) + twin1(c) + twin2(c) "
                    "+ last(c) + other(c); }"}},
                  pie());
  program.strip();
  const elf::AtomGraph graph = program.original("a.c");
  Report report;
  const Matched matched = match(graph, all_functions(graph), {}, program.target(), report);
  EXPECT_TRUE(report.clean()) << ids_of(report);
  for (const ReplacedUnit& unit : matched.replaced) {
    EXPECT_EQ(unit.entry, *program.truth(graph.name_of(unit.function)))
        << graph.name_of(unit.function);
  }
}

// Refusal: code-folded
// Claim: a function that shares its code with another one by the linker's folding is not replaced.
TEST(Folded, IsRefused) {
  const Program program(
      {{"a.c",
        "int scale(int x) { return x * 4711 + 3; } int used(int x) { return scale(x) / 7; }"},
       {"b.c", "int gauge(int x) { return x * 4711 + 3; }"},
       {"main.c",
        "int used(int), gauge(int); int main(int c, char** v) { return used(c) + gauge(c); }"}},
      {"gcc-12",
       {"-O2", "-fPIE", "-fno-inline", "-ffunction-sections"},
       {"-pie", "-Wl,--icf=all"},
       "lld"});
  ASSERT_EQ(program.truth("scale"), program.truth("gauge")) << "the linker did not fold";
  const elf::AtomGraph graph = program.original("a.c");
  Report report;
  match(graph, {function(graph, "scale")}, {}, program.target(), report);
  ASSERT_EQ(report.refusals().size(), 1u) << ids_of(report);
  EXPECT_EQ(report.refusals()[0].id, "code-folded");
  EXPECT_NE(report.refusals()[0].detail.find("gauge"), std::string::npos);
}

}  // namespace
}  // namespace qp::match
