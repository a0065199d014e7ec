// Hundreds of functions at once: a generated program, with the symbol table as the oracle.
#include <gtest/gtest.h>

#include "corpus.h"
#include "match/bind.h"
#include "programs.h"

namespace qp::match {
namespace {

class Corpus : public testing::TestWithParam<Recipe> {};

// Claim: all functions are proven at their true places, and every named symbol is bound right.
TEST_P(Corpus, EverythingIsFoundAndNothingIsWrong) {
  const Recipe& recipe = GetParam();
  const Program program(corpus(), recipe);
  size_t proven = 0;
  for (const auto& [path, text] : corpus()) {
    const elf::AtomGraph graph = program.original(path);
    std::vector<elf::AtomId> functions;
    std::vector<elf::AtomSymbolId> wanted;
    for (const elf::AtomId id : all_functions(graph)) {
      const bool local = graph.symbol_of(id).bind == elf::SymbolBind::Local;
      if (program.truth(graph.name_of(id), local ? path : "")) {
        functions.push_back(id);
      }
    }
    for (elf::AtomSymbolId id = 0; id < graph.symbols.size(); ++id) {
      if (graph.symbols[id].name.starts_with("var") ||
          graph.symbols[id].name.starts_with("shared")) {
        wanted.push_back(id);
      }
    }
    Report report;
    const Matched matched = match(graph, functions, wanted, program.target(), report);
    EXPECT_TRUE(report.clean()) << ids_of(report);
    proven += matched.functions_proven;
    for (elf::AtomSymbolId id = 0; id < graph.symbols.size(); ++id) {
      const elf::AtomSymbol& symbol = graph.symbols[id];
      const elf::Binding& binding = matched.bindings[id];
      if (binding.kind != elf::BindingKind::Address || symbol.anonymous) {
        continue;
      }
      if (const auto truth =
              program.truth(symbol.name, symbol.bind == elf::SymbolBind::Local ? path : "")) {
        EXPECT_EQ(binding.address, *truth) << path << " " << symbol.name;
      }
    }
  }
  EXPECT_GE(proven, 240u);
}

INSTANTIATE_TEST_SUITE_P(
    Recipes, Corpus,
    testing::Values(Recipe{"gcc-12", {"-O2", "-fPIE"}, {"-pie"}, "bfd"},
                    Recipe{"gcc-12", {"-O2", "-fno-pie"}, {"-no-pie", "-Wl,-z,now"}, "lld"},
                    Recipe{"gcc-12", {"-O3", "-fPIE", "-fno-plt"}, {"-pie"}, "gold"},
                    Recipe{"clang-14", {"-O2", "-fPIE"}, {"-pie"}, "lld"}));

// Claim: no function is proven at the place of another one, unless their code is equal.
TEST(Corpus, NoFunctionIsProvenElsewhere) {
  const Program program(corpus(), {"gcc-12", {"-O2", "-fPIE"}, {"-pie"}, "bfd"});
  const elf::AtomGraph graph = program.original("g0.c");
  size_t compared = 0;
  for (const elf::AtomId id : all_functions(graph)) {
    const auto truth = program.truth(
        graph.name_of(id), graph.symbol_of(id).bind == elf::SymbolBind::Local ? "g0.c" : "");
    for (const MapEntry& entry : program.symbols().entries()) {
      if (entry.type == elf::SymbolType::Func && entry.size != 0 && truth &&
          entry.address != *truth) {
        ++compared;
        EXPECT_FALSE(prove(graph, id, entry.address, program.target()).proven)
            << graph.name_of(id) << " at " << entry.name;
      }
    }
  }
  EXPECT_GT(compared, 8000u);
}

}  // namespace
}  // namespace qp::match
