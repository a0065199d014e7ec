// The proof rejects: a target that differs from the original in one thing is not proven.
#include <gtest/gtest.h>

#include "insn/instruction.h"
#include "match/proof.h"
#include "programs.h"
#include "sources.h"

namespace qp::match {
namespace {

// Without alignment there is no padding inside functions, so no byte is free to change.
const Words kDense = {"-O2", "-fno-align-functions", "-fno-align-jumps", "-fno-align-loops",
                      "-fno-align-labels"};

Words with(Words words, const Words& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

struct Case {
  const char* name;
  Recipe recipe;
};
std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << c.name;
}

class EveryByte : public testing::TestWithParam<Case> {};

// Claim: with any byte of the code or of the constants it refers to changed, no function is proven.
TEST_P(EveryByte, Counts) {
  const Recipe& recipe = GetParam().recipe;
  const Program program(everything(), recipe);
  const elf::AtomGraph graph = program.original("a.c");
  ChangedReader changed(program.memory());
  const Target target{changed, program.symbols(), program.file().tls_block_end()};
  size_t functions = 0;
  for (const elf::AtomId id : all_functions(graph)) {
    const auto start = program.truth(
        graph.name_of(id), graph.symbol_of(id).bind == elf::SymbolBind::Local ? "a.c" : "");
    if (!start) {
      continue;
    }
    const UnitProof proof = prove_unit(graph, id, *start, program.target());
    ASSERT_TRUE(proof.proven) << graph.name_of(id) << ": " << proof.difference->what;
    ++functions;
    std::vector<LinkRange> ranges = proof.ranges;
    for (const Solution& s : proof.solutions) {
      const auto atom = graph.symbols[s.symbol].atom;
      if (atom && graph.atoms[*atom].kind != elf::AtomKind::Function &&
          graph.atoms[*atom].storage == elf::Storage::ReadOnly) {
        ranges.push_back({s.binding.address, s.binding.address + graph.atoms[*atom].size});
      }
    }
    for (const LinkRange& range : ranges) {
      for (LinkAddr at = range.start; at < range.end; at += 1) {
        for (const uint8_t bits : {0x01, 0x08, 0x80, 0xff}) {
          changed.clear();
          changed.change(at, bits);
          EXPECT_FALSE(prove_unit(graph, id, *start, target).proven)
              << graph.name_of(id) << ": byte at " << std::hex << at.value << " xor " << int{bits};
        }
      }
    }
  }
  EXPECT_GE(functions, 14u);
}

INSTANTIATE_TEST_SUITE_P(
    Recipes, EveryByte,
    testing::Values(
        Case{"pie", {"gcc-12", with(kDense, {"-fPIE"}), {"-pie"}, "bfd"}},
        Case{"fixed", {"gcc-12", with(kDense, {"-fno-pie"}), {"-no-pie"}, "lld"}},
        Case{"no_plt",
             {"gcc-12", with(kDense, {"-fPIC", "-fno-plt"}), {"-pie", "-Wl,--no-relax"}, "gold"}},
        Case{"unoptimised", {"gcc-12", {"-O0", "-fPIE"}, {"-pie"}, "bfd"}},
        Case{"tls_gd",
             {"gcc-12", with(kDense, {"-fPIC", "-ftls-model=global-dynamic"}), {"-pie"}, "bfd"}},
        Case{"tls_ld",
             {"gcc-12",
              with(kDense, {"-fPIC", "-fno-plt", "-ftls-model=local-dynamic"}),
              {"-pie"},
              "lld"}},
        Case{"tls_descriptors_library",
             {"gcc-12", with(kDense, {"-fPIC", "-mtls-dialect=gnu2"}), {"-shared"}, "bfd"}}),
    [](const auto& param_info) { return param_info.param.name; });

// Claim: bytes that are equal now but can be overwritten are not the constant of the original.
TEST(Mutations, ConstantInWritableMemory) {
  const Program program({{"a.c",
                          "char zero[16]; const char* f(void) { return \"\"; }"
                          "int main(void) { return *f() + zero[1]; }"}},
                        {"gcc-12", {"-O2", "-fno-pie"}, {"-no-pie"}});
  const elf::AtomGraph graph = program.original("a.c");
  const elf::AtomId id = function(graph, "f");
  const LinkAddr start = *program.truth("f");
  ChangedReader changed(program.memory());
  const Target target{changed, program.symbols(), program.file().tls_block_end()};
  ASSERT_TRUE(prove(graph, id, start, target).proven);
  Bytes field(4);
  ASSERT_TRUE(program.memory().try_read(start + 1, field));  // b8 imm32: mov $string,%eax
  const uint32_t bits = load<uint32_t>(field) ^ static_cast<uint32_t>(program.truth("zero")->value);
  for (uint64_t i = 0; i < 4; ++i) {
    changed.change(start + 1 + i, static_cast<uint8_t>(bits >> (8 * i)));
  }
  const Proof proof = prove(graph, id, start, target);
  EXPECT_FALSE(proof.proven);
  EXPECT_NE(proof.difference->what.find("not memory of that kind"), std::string::npos)
      << proof.difference->what;
}

// Claim: one variable of the original that is two in the target is a difference, also if no symbol
// tells them apart.
TEST(Mutations, OneSymbolTwoPlaces) {
  const auto source = [](const std::string& second) {
    return "volatile int v, w; int f(void) { v = 1; " + second +
           " = 2; return 3; } int main(void) { return f() + v + w; }";
  };
  const Recipe recipe{"gcc-12", {"-O2", "-fPIE"}, {"-pie"}, "bfd"};
  const Program object({{"a.c", source("v")}}, recipe);
  Program target({{"a.c", source("w")}}, recipe);
  target.process({"objcopy", "--strip-symbol=v", "--strip-symbol=w", "target"});
  const elf::AtomGraph graph = object.original("a.c");
  const Proof proof = prove(graph, function(graph, "f"), *target.truth("f"), target.target());
  EXPECT_FALSE(proof.proven);
  EXPECT_NE(proof.difference->what.find("was found at"), std::string::npos)
      << proof.difference->what;
}

// What a target built from another source says. `changed` replaces one text of the source.
std::string difference_of(const std::string& name, const std::string& from, const std::string& to,
                          const Words& flags = {"-O2", "-fPIE"}) {
  std::string text = kEverything;
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  text.replace(at, from.size(), to);
  auto sources = everything();
  const Program object(sources, {"gcc-12", flags, {"-pie"}});
  sources["a.c"] = text;
  const Program target(sources, {"gcc-12", flags, {"-pie"}});
  const elf::AtomGraph graph = object.original("a.c");
  const UnitProof proof =
      prove_unit(graph, function(graph, name), *target.truth(name), target.target());
  EXPECT_FALSE(proof.proven);
  return proof.difference ? proof.difference->what : "";
}

// Claim: another constant is a difference, and both instructions are named.
TEST(Mutations, Constant) {
  const std::string what = difference_of("compare", "== 42", "== 43");
  EXPECT_NE(what.find("0x2a"), std::string::npos) << what;
  EXPECT_NE(what.find("0x2b"), std::string::npos) << what;
}

// Claim: a call of another function is a difference although the instruction is the same.
TEST(Mutations, CallTarget) {
  const std::string what = difference_of("labels", "return other(2)", "return choose(2)");
  EXPECT_NE(what.find("choose"), std::string::npos) << what;
}

// Claim: a call of another import is a difference.
TEST(Mutations, Import) {
  const std::string what = difference_of("choose", "printf(\"two\\n\")", "puts(\"two\\n\")",
                                         {"-O2", "-fPIE", "-fno-builtin"});
  EXPECT_FALSE(what.empty());
}

// Claim: another string is a difference.
TEST(Mutations, String) {
  const std::string what = difference_of("choose", "\"five\"", "\"fife\"");
  EXPECT_NE(what.find("offset 0x2"), std::string::npos) << what;
}

// Claim: what stands behind a NUL in a string counts.
TEST(Mutations, BehindNul) {
  EXPECT_FALSE(difference_of("wide", "\\0 string", "\\0 strong").empty());
}

// Claim: another value in a constant table is a difference for its readers.
TEST(Mutations, ConstantTable) {
  EXPECT_FALSE(difference_of("local_table", "{1, 2, 3, 5, 8}", "{1, 2, 3, 5, 9}").empty());
}

// Claim: another string behind a pointer in a constant table is a difference for its readers.
TEST(Mutations, PointerTable) {
  EXPECT_FALSE(difference_of("name_of", "\"three\"", "\"tree\"").empty());
}

// Claim: a change in the cold piece is a difference of the function.
TEST(Mutations, ColdPiece) {
  EXPECT_FALSE(difference_of("guarded", "\"unlikely\"", "\"unlikelY\"").empty());
}

// Claim: two swapped cases of a switch are a difference, whether as a table or as code.
TEST(Mutations, SwitchTable) {
  EXPECT_FALSE(difference_of("labels", "{&&a, &&b, &&c}", "{&&b, &&a, &&c}").empty());
}

// Claim: another float constant is a difference.
TEST(Mutations, FloatConstant) {
  EXPECT_FALSE(difference_of("floating", "3.25", "3.5").empty());
}

// Claim: another thread-local variable is a difference.
TEST(Mutations, ThreadLocal) {
  EXPECT_FALSE(
      difference_of("thread_local_sum", "tls_local-- + tls_second++", "tls_second-- + tls_local++")
          .empty());
}

// Claim: another variable of the same type is a difference.
TEST(Mutations, Variable) {
  EXPECT_FALSE(
      difference_of("store", "other_value = 1000",
                    "shared_global = 1000; other_value = 0x12345678; if (0) shared_global = 0")
          .empty());
}

}  // namespace
}  // namespace qp::match
