#include "match/symbol_map.h"

#include <gtest/gtest.h>

#include "programs.h"
#include "sources.h"

namespace qp::match {
namespace {

const char* const kCaller = R"(
#include <stdio.h>
extern __thread int somewhere;
static volatile int value;
static int same(void) { return value; }
int (*keep)(const char*) = puts;
int main(void) { setbuf(stdout, 0); return same() + printf("%d\n", value); }
)";

std::map<std::string, std::string> two_files() {
  return {{"x/u.c", kCaller},
          {"y/u.c", "static int value = 3; int other(void) { return ++value; }"},
          {"z.c", "int value_of_z; static int value = 4; int third(void) { return ++value; }"}};
}

// Claim: each FILE symbol is a scope of its own, also if two have one name.
TEST(SymbolMap, FilesOfOneNameAreTwoScopes) {
  const Program program(two_files(), {});
  EXPECT_EQ(program.symbols().scopes_named("u.c").size(), 2u);
  EXPECT_EQ(program.symbols().scopes_named("dir/z.c").size(), 1u);
  std::set<uint32_t> scopes;
  for (const MapEntry* entry : program.symbols().named("value")) {
    scopes.insert(entry->scope);
  }
  EXPECT_EQ(scopes.size(), 3u);
}

// Claim: global symbols belong to no scope.
TEST(SymbolMap, GlobalsHaveNoScope) {
  const Program program(two_files(), {});
  const auto third = program.symbols().named("third");
  ASSERT_EQ(third.size(), 1u);
  EXPECT_EQ(third[0]->scope, 0u);
  EXPECT_EQ(third[0]->file, "");
}

// Claim: a name is found without the number that the compiler gave it, exact names first.
TEST(SymbolMap, SimilarNames) {
  MapEntry a, b, c;
  a.name = "aaa.1";
  a.address = LinkAddr(8);
  b.name = "aaa.2";
  b.address = LinkAddr(4);
  c.name = "aaab";
  const SymbolMap map = SymbolMap::from_entries({a, b, c}, {}, true);
  const auto found = map.similar("aaa.1");
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0]->name, "aaa.1");
  EXPECT_EQ(map.named("aaa.1").size(), 1u);
  EXPECT_TRUE(map.similar("bbb").empty());
}

// Claim: an address inside a function finds it, one behind its end does not.
TEST(SymbolMap, FunctionContaining) {
  MapEntry outer, inner;
  outer.name = "outer";
  outer.type = inner.type = elf::SymbolType::Func;
  outer.address = LinkAddr(0x100);
  outer.size = 0x100;
  inner.name = "inner";
  inner.address = LinkAddr(0x110);
  inner.size = 0x10;
  const SymbolMap map = SymbolMap::from_entries({outer, inner}, {}, true);
  EXPECT_EQ(map.function_containing(LinkAddr(0x118))->name, "inner");
  EXPECT_EQ(map.function_containing(LinkAddr(0x180))->name, "outer");
  EXPECT_EQ(map.function_containing(LinkAddr(0x200)), nullptr);
  EXPECT_EQ(map.function_containing(LinkAddr(0xff)), nullptr);
  EXPECT_EQ(map.next_start_after(LinkAddr(0x100), 4), LinkAddr(0x110));
  EXPECT_EQ(map.next_start_after(LinkAddr(0x110), 4), std::nullopt);
}

// Claim: a size that reaches beyond the address space does not wrap.
TEST(SymbolMap, HugeSizes) {
  MapEntry huge;
  huge.name = "huge";
  huge.type = elf::SymbolType::Func;
  huge.address = LinkAddr(0x100);
  huge.size = ~uint64_t{0};
  const SymbolMap map = SymbolMap::from_entries({huge}, {}, true);
  EXPECT_NE(map.function_containing(LinkAddr(0x200)), nullptr);
  EXPECT_EQ(map.function_containing(LinkAddr(0x10)), nullptr);
}

class Stubs : public testing::TestWithParam<std::pair<std::string, Words>> {};

// Claim: the stub of an imported function is found whatever the PLT looks like, and its version.
TEST_P(Stubs, AreFound) {
  const auto& [linker, flags] = GetParam();
  Recipe recipe;
  recipe.compile = {"-O2", "-fPIE"};
  recipe.compile.insert(recipe.compile.end(), flags.begin(), flags.end());
  recipe.link = recipe.compile;
  recipe.link.push_back("-pie");
  recipe.linker = linker;
  const Program program(two_files(), recipe);
  const ImportEntry* import = program.symbols().import_named("printf");
  ASSERT_NE(import, nullptr);
  EXPECT_EQ(import->version, "GLIBC_2.2.5");
  ASSERT_NE(import->stub.value, 0u);
  ASSERT_NE(import->slot.value, 0u);
  EXPECT_EQ(program.symbols().import_by_stub(import->stub), import);
  EXPECT_EQ(program.symbols().import_by_slot(import->slot), import);
  EXPECT_EQ(import->own.value, 0u);
}

INSTANTIATE_TEST_SUITE_P(
    Linkers, Stubs,
    testing::Values(std::pair("bfd", Words{}), std::pair("bfd", Words{"-Wl,-z,now"}),
                    std::pair("bfd", Words{"-fcf-protection", "-Wl,-z,ibtplt"}),
                    std::pair("gold", Words{}), std::pair("lld", Words{}),
                    std::pair("lld", Words{"-fcf-protection", "-Wl,-z,force-ibt"})));

// Claim: a symbol that was copied into the executable is the executable's own.
TEST(SymbolMap, CopiedVariablesAreDefined) {
  Recipe recipe;
  recipe.compile = {"-O2", "-fno-pie"};
  recipe.link = {"-no-pie"};
  const Program program(two_files(), recipe);
  EXPECT_EQ(program.symbols().named("stdout").size(), 1u);
}

// Claim: a pointer that ld.so relocates is known with the place it leads to.
TEST(SymbolMap, RelativePointers) {
  Recipe recipe;
  recipe.compile = {"-O2", "-fPIE"};
  recipe.link = {"-pie"};
  const Program program(
      {{"a.c",
        "static int f(void) { return 1; } int (*volatile p)(void) = f; int main(void) { "
        "return p(); }"}},
      recipe);
  const DynamicValue* value = program.symbols().dynamic_value_at(*program.truth("p"));
  ASSERT_NE(value, nullptr);
  EXPECT_EQ(value->kind, DynamicValue::Kind::Address);
  EXPECT_EQ(value->address, *program.truth("f"));
}

// Claim: without .symtab the exported symbols and the imports remain.
TEST(SymbolMap, StrippedTarget) {
  Recipe recipe;
  recipe.link = {"-Wl,--export-dynamic", "-pie"};
  recipe.compile = {"-fPIE"};
  Program program(two_files(), recipe);
  program.process({"strip", "target"});
  EXPECT_FALSE(program.symbols().has_symtab());
  ASSERT_EQ(program.symbols().named("third").size(), 1u);
  EXPECT_EQ(program.symbols().named("third")[0]->source, Source::DynSym);
  EXPECT_NE(program.symbols().import_named("printf"), nullptr);
}

// Claim: constant memory is what no segment lets anybody write, and what is made so after start.
TEST(SymbolMap, ConstantMemory) {
  Recipe recipe;
  recipe.compile = {"-O0", "-fPIE"};
  recipe.link = {"-pie"};
  const Program program(everything(), recipe);
  const LinkAddr table = *program.truth("table"), names = *program.truth("names");
  const LinkAddr counter = *program.truth("counter", "a.c");
  EXPECT_TRUE(program.symbols().is_constant({table, table + 20}));
  EXPECT_TRUE(program.symbols().is_constant({names, names + 24}));
  EXPECT_FALSE(program.symbols().is_constant({counter, counter + 4}));
  EXPECT_TRUE(program.symbols().is_writable(counter));
  EXPECT_TRUE(program.symbols().is_executable(*program.truth("main")));
  EXPECT_FALSE(program.symbols().is_executable(counter));
}

}  // namespace
}  // namespace qp::match
