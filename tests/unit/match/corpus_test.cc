// Hundreds of functions at once: a generated program, with the symbol table as the oracle.
#include <gtest/gtest.h>

#include <random>

#include <fmt/format.h>

#include "match/bind.h"
#include "programs.h"

namespace qp::match {
namespace {

constexpr int kFunctions = 80;

// Deterministic, and full of near twins: many functions differ in one constant, one callee or one
// variable only. Static names repeat in every file.
std::string generate(int file) {
  std::mt19937 random(static_cast<unsigned>(file));
  const auto pick = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
  std::string text =
      "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n"
      "#define N __attribute__((noinline))\n";
  for (int i = 0; i < 8; ++i) {
    text += fmt::format("static int var{} = {};\nint shared{}_{};\n", i, i + file, file, i);
  }
  text += "static const short weights[] = {3, 1, 4, 1, 5, 9, 2, 6};\n";
  for (int i = 0; i < kFunctions; ++i) {
    text += fmt::format("int f{}_{}(int, char*);\n", file, i);
    text += fmt::format("int f{}_{}(int, char*);\n", (file + 1) % 3, i);
  }
  for (int i = 0; i < kFunctions; ++i) {
    const std::string head = i % 4 == 0 ? fmt::format("N static int local{}(int x, char* s)", i)
                                        : fmt::format("N int f{}_{}(int x, char* s)", file, i);
    const int callee_file = pick(2) == 0 ? file : (file + 1) % 3;
    int callee = pick(kFunctions);
    callee += callee % 4 == 0 ? 1 : 0;
    text += head + " {\n";
    switch (pick(9)) {
      case 0:
        text += fmt::format("return x * {} + var{}++;", pick(3) + 2, pick(8));
        break;
      case 1:
        text +=
            fmt::format("return f{}_{}(x + {}, s) - var{};", callee_file, callee, pick(4), pick(8));
        break;
      case 2:
        text += "switch (x) {";
        for (int k = 0; k < 7 + pick(3); ++k) {
          text += fmt::format("case {}: return f{}_{}(x, s) + var{};", k, callee_file,
                              (callee / 4 * 4 + 1 + k % 3), pick(8));
        }
        text += "} return 0;";
        break;
      case 3:
        text += fmt::format("printf(\"%d value {} %s\\n\", x, s); return x;", pick(20));
        break;
      case 4:
        text += fmt::format("static int aaa = {}; aaa += x; return aaa;", pick(3));
        break;
      case 5:
        text += fmt::format(
            "if (__builtin_expect(x > {}, 0)) {{ fprintf(stderr, \"f {}\"); abort(); "
            "}} return strlen(s) + shared{}_{};",
            pick(1000) + 300, pick(5), file, pick(8));
        break;
      case 6:
        text += fmt::format(
            "double d = x * {}.25; for (int k = 0; k < x; k++) d += weights[k & 7] * "
            "d; return d + var{};",
            pick(9), pick(8));
        break;
      case 7:
        text += fmt::format(
            "int (*const to[])(int, char*) = {{f{}_{}, f{}_{}}}; return to[x & 1](x, "
            "s);",
            file, callee, callee_file, callee / 4 * 4 + 2);
        break;
      default:
        text +=
            fmt::format("while (*s && x > {}) {{ x -= *s++; if (x == {}) var{} = x; }} return x;",
                        pick(3), pick(100), pick(8));
        break;
    }
    text += "\n}\n";
  }
  // The statics are used, in an order of their own, so that their addresses are known to somebody.
  for (int i = 0; i < kFunctions; i += 4) {
    text += fmt::format("int f{}_{}(int x, char* s) {{ return local{}(x + {}, s) + 1; }}\n", file,
                        i, (i * 7) % kFunctions / 4 * 4, i);
  }
  if (file == 0) {
    text += "int main(int c, char** v) { return ";
    for (int f = 0; f < 3; ++f) {
      for (int i = 0; i < kFunctions; ++i) {
        text += fmt::format("f{}_{}(c, v[0]) + ", f, i);
      }
    }
    text += "0; }\n";
  }
  return text;
}

std::map<std::string, std::string> corpus() {
  return {{"g0.c", generate(0)}, {"g1.c", generate(1)}, {"g2.c", generate(2)}};
}

class Corpus : public testing::TestWithParam<Recipe> {};

// Claim: all functions are proven at their true places, and every named symbol is bound right.
TEST_P(Corpus, EverythingIsFoundAndNothingIsWrong) {
  const Recipe& recipe = GetParam();
  if (!is_installed("ld." + recipe.linker) || !is_installed(recipe.compiler)) {
    GTEST_SKIP() << recipe.compiler << " or ld." << recipe.linker << " is not installed";
  }
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
