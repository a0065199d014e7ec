// Symbols are not unique, and each is bound right or refused.
#include "match/bind.h"

#include <gtest/gtest.h>

#include "match/candidates.h"
#include "programs.h"
#include "sources.h"

namespace qp::match {
namespace {

using elf::BindingKind;
using elf::Evidence;

Recipe pie() {
  return {"gcc-12", {"-O2", "-fPIE"}, {"-pie"}, "bfd"};
}

std::string first_id(const Report& report) {
  return report.refusals().empty() ? "" : report.refusals().front().id;
}

// The talk's first example: two files, each with `static foo` and `static var`.
std::map<std::string, std::string> same_statics(const std::string& a, const std::string& b) {
  const std::string common =
      "static int var; static __attribute__((noinline, noclone)) int foo(int x) { return var += x; "
      "}\n";
  return {
      {a, common + "int from_a(void) { return foo(1); }"},
      {b, common + "int from_b(void) { return foo(2); }"},
      {"main.c", "int from_a(void), from_b(void); int main(void) { return from_a() + from_b(); }"}};
}

void expect_right_file(const Program& program, const std::string& path, const std::string& caller,
                       LinkAddr foo, LinkAddr var) {
  const elf::AtomGraph graph = program.original(path);
  Report report;
  const Matched matched = match(graph, {function(graph, "foo"), function(graph, caller)},
                                {symbol(graph, "var")}, program.target(), report);
  EXPECT_TRUE(report.clean()) << ids_of(report);
  EXPECT_EQ(matched.replaced[0].entry, foo);
  EXPECT_EQ(matched.bindings[symbol(graph, "var")].address, var);
  EXPECT_EQ(matched.bindings[symbol(graph, "var")].evidence, Evidence::Proof);
  EXPECT_EQ(matched.functions_proven, matched.functions_tried);
}

// Claim: two files with the same static function and variable bind each to its own.
TEST(Bind, SameStaticsInTwoFiles) {
  const Program program(same_statics("a.c", "b.c"), pie());
  expect_right_file(program, "a.c", "from_a", *program.truth("foo", "a.c"),
                    *program.truth("var", "a.c"));
  expect_right_file(program, "b.c", "from_b", *program.truth("foo", "b.c"),
                    *program.truth("var", "b.c"));
}

// Claim: also if the two files have one name; who calls the function tells which it is.
TEST(Bind, SameStaticsInFilesOfOneName) {
  const Program program(same_statics("a/u.c", "b/u.c"), pie());
  const auto scopes = program.symbols().scopes_named("u.c");
  ASSERT_EQ(scopes.size(), 2u);
  std::map<uint32_t, LinkAddr> foo, var;
  for (const MapEntry* entry : program.symbols().named("foo")) {
    foo[entry->scope] = entry->address;
  }
  for (const MapEntry* entry : program.symbols().named("var")) {
    var[entry->scope] = entry->address;
  }
  // Objects are linked in the order of their paths.
  expect_right_file(program, "a/u.c", "from_a", foo[scopes[0]], var[scopes[0]]);
  expect_right_file(program, "b/u.c", "from_b", foo[scopes[1]], var[scopes[1]]);
}

// Claim: a static function that nothing proven calls is told from its twin by the FILE scope that
// the object's other functions show.
TEST(Bind, ScopeOfProvenFunctionsDecides) {
  auto sources = same_statics("a/u.c", "b/u.c");
  for (const char* path : {"a/u.c", "b/u.c"}) {
    sources[path] +=
        "\nstatic int twin_state;"
        "__attribute__((used)) static int twin(void) { return twin_state++; }";
  }
  const Program program(sources, pie());
  const auto scopes = program.symbols().scopes_named("u.c");
  const elf::AtomGraph graph = program.original("b/u.c");
  Report report;
  const Matched matched = match(graph, {function(graph, "twin")}, {symbol(graph, "twin_state")},
                                program.target(), report);
  EXPECT_TRUE(report.clean()) << ids_of(report);
  for (const MapEntry* entry : program.symbols().named("twin")) {
    EXPECT_EQ(entry->address == matched.replaced[0].entry, entry->scope == scopes[1]);
  }
}

// Claim: a lone local label without a size is not taken for a symbol of another object, nor is that
// symbol said to be another module's.
TEST(Bind, ALocalLabelIsNoSymbol) {
  const Program program(
      {{"label.s", ".text\nspot: nop\n ret\n"}, {"main.c", "int main(void) { return 0; }"}}, pie());
  elf::AtomSymbol wanted;
  wanted.name = "spot";
  wanted.bind = elf::SymbolBind::Global;
  Report report;
  const elf::Binding binding = bind_by_name(wanted, program.target(), std::nullopt, report);
  EXPECT_EQ(first_id(report), "symbol-ambiguous");
  EXPECT_EQ(binding.kind, BindingKind::Unbound);
}

// Refusal: symbol-ambiguous
// Claim: twins that nothing tells apart are refused, and both places are named.
TEST(Bind, TwinsThatNothingTellsApart) {
  const std::string unit =
      "static int state; __attribute__((used)) static int twin(void) { "
      "return state++; }";
  const Program program(
      {{"a/u.c", unit}, {"b/u.c", unit}, {"main.c", "int main(void) { return 0; }"}}, pie());
  const elf::AtomGraph graph = program.original("a/u.c");
  Report report;
  const Matched matched =
      match(graph, {function(graph, "twin")}, {symbol(graph, "state")}, program.target(), report);
  ASSERT_EQ(report.refusals().size(), 2u) << ids_of(report);
  EXPECT_EQ(report.refusals()[0].id, "symbol-ambiguous");
  EXPECT_EQ(report.refusals()[0].where, "twin");
  EXPECT_NE(report.refusals()[0].detail.find("u.c"), std::string::npos);
  EXPECT_EQ(report.refusals()[1].id, "symbol-ambiguous");
  EXPECT_EQ(report.refusals()[1].where, "state");
  EXPECT_EQ(matched.bindings[symbol(graph, "state")].kind, BindingKind::Unbound);
}

const char* const kTwoLocals = R"(
#ifdef EARLIER
  int earlier(void) { static int aaa; static int bbb; return aaa++ + bbb++; }
#endif
  int one(void) { static int aaa = 1; return aaa++; }
  int two(void) { static int aaa = 2; return --aaa; }
  int main(void) { return one() + two(); }
)";

// The talk's second example: the number behind the name of a static local means nothing.
// Claim: two static locals of one name bind by the functions that use them.
TEST(Bind, StaticLocalsOfOneName) {
  for (const Words& target_only : {Words{}, Words{"-DEARLIER"}}) {
    const Program program({{"a.c", kTwoLocals}}, pie(), target_only);
    const elf::AtomGraph graph = program.original("a.c");
    const auto locals = symbols_like(graph, "aaa");
    ASSERT_EQ(locals.size(), 2u);
    Report report;
    const Matched matched = match(graph, {function(graph, "one"), function(graph, "two")}, locals,
                                  program.target(), report);
    ASSERT_TRUE(report.clean()) << ids_of(report);
    for (const elf::AtomSymbolId local : locals) {
      int32_t initial = 0, found = 0;
      initial = load<int32_t>(graph.atoms[*graph.symbols[local].atom].bytes);
      Bytes bytes(4);
      ASSERT_TRUE(program.memory().try_read(matched.bindings[local].address, bytes));
      found = load<int32_t>(bytes);
      EXPECT_EQ(initial, found) << graph.symbols[local].name;
    }
    EXPECT_NE(matched.bindings[locals[0]].address, matched.bindings[locals[1]].address);
  }
}

// Claim: a function that is not in the target is refused by name.
TEST(Bind, MissingFunction) {
  const Program with({{"a.c", kTwoLocals}}, {"gcc-12", {"-O2", "-fPIE", "-DEARLIER"}, {"-pie"}});
  const Program without({{"a.c", kTwoLocals}}, pie());
  const elf::AtomGraph graph = with.original("a.c");
  Report report;
  const Matched matched = match(graph, {function(graph, "earlier")}, {}, without.target(), report);
  ASSERT_EQ(report.refusals().size(), 1u) << ids_of(report);
  EXPECT_EQ(first_id(report), "function-missing");
  EXPECT_EQ(report.refusals()[0].where, "earlier");
  EXPECT_EQ(matched.functions_proven, 3u);
  EXPECT_EQ(matched.functions_tried, 4u);
}

// Claim: a function whose code differs is refused with its first difference, the others are proven.
TEST(Bind, CodeDiffers) {
  auto sources = everything();
  const Program object(sources, pie());
  const size_t at = sources["a.c"].find("== 42");
  sources["a.c"].replace(at, 5, "== 43");
  const Program target(sources, pie());
  const elf::AtomGraph graph = object.original("a.c");
  Report report;
  const Matched matched = match(graph, {function(graph, "compare"), function(graph, "choose")}, {},
                                target.target(), report);
  ASSERT_EQ(report.refusals().size(), 1u) << ids_of(report);
  EXPECT_EQ(first_id(report), "code-differs");
  EXPECT_EQ(report.refusals()[0].where, "compare");
  EXPECT_NE(report.refusals()[0].detail.find("$0x2b"), std::string::npos) << ids_of(report);
  EXPECT_EQ(matched.functions_proven + 1, matched.functions_tried);
  EXPECT_EQ(matched.replaced[1].entry, *target.truth("choose"));
}

// Claim: if no function at all is proven, the likely cause is named.
TEST(Bind, OtherFlags) {
  const Program object(everything(), pie());
  const Program target(everything(), {"gcc-12", {"-O0", "-fPIE"}, {"-pie"}});
  const elf::AtomGraph graph = object.original("a.c");
  Report report;
  match(graph, {function(graph, "choose")}, {}, target.target(), report);
  EXPECT_EQ(first_id(report), "code-differs");
  EXPECT_NE(ids_of(report).find("other flags"), std::string::npos) << ids_of(report);
}

// Refusal: binding-conflict
// Claim: two proven functions that disagree about a symbol are a conflict.
TEST(Bind, Conflict) {
  const auto source = [](const std::string& second) {
    return "int v __attribute__((visibility(\"hidden\"))) = 1;"
           "int w __attribute__((visibility(\"hidden\"))) = 2;"
           "int one(void) { return v++; } int two(void) { return --" +
           second + "; } int main(void) { return one() + two() + w; }";
  };
  const Program object({{"a.c", source("v")}}, pie());
  Program target({{"a.c", source("w")}}, pie());
  target.process({"objcopy", "--strip-symbol=v", "--strip-symbol=w", "target"});
  const elf::AtomGraph graph = object.original("a.c");
  Report report;
  match(graph, {function(graph, "one"), function(graph, "two")}, {}, target.target(), report);
  EXPECT_NE(ids_of(report).find("binding-conflict"), std::string::npos) << ids_of(report);
}

// Claim: a variable that no proven code uses is bound by name in the FILE scope of the object.
TEST(Bind, BySymbolTable) {
  std::map<std::string, std::string> sources = {
      {"a.c", "static int var = 7; int use(int x) { return x * (var += 3); }"},
      {"b.c", "static int var = 8; int main(void) { return var++; }"}};
  const Program object(sources, pie());
  sources["a.c"] = "static int var = 7; int use(int x) { return x * (var += 4); }";
  const Program target(sources, pie());
  const elf::AtomGraph graph = object.original("a.c");
  Report report;
  const elf::AtomSymbolId var = symbol(graph, "var");
  const Matched matched = match(graph, {}, {var}, target.target(), report);
  ASSERT_TRUE(report.clean()) << ids_of(report);
  EXPECT_EQ(matched.bindings[var].address, *target.truth("var", "a.c"));
  EXPECT_EQ(matched.bindings[var].evidence, Evidence::SymbolTable);
}

// Claim: a wanted variable that the target lost is refused.
TEST(Bind, MissingSymbol) {
  const std::string use = "int use(int x) { return x";
  const std::string main = "; } int main(void) { return use(1); }";
  const Program object({{"a.c", "static int gone;" + use + " + gone++" + main}}, pie());
  const Program target({{"a.c", use + main}}, pie());
  const elf::AtomGraph graph = object.original("a.c");
  Report report;
  match(graph, {}, {symbol(graph, "gone")}, target.target(), report);
  EXPECT_EQ(first_id(report), "symbol-missing") << ids_of(report);
}

// Claim: undefined symbols bind to the target's globals, to its imports, or to other modules.
TEST(Bind, Externals) {
  const char* const object_source = R"(
    #include <stdio.h>
    extern int other_value; extern __thread int tls_global; int other(int); int nowhere(int);
    int fresh(void) { puts(""); return other_value + other(1) + nowhere(2) + tls_global; })";
  const Program target(everything(), pie());
  Program object({{"n.c", object_source},
                  {"m.c",
                   "int other_value; __thread int tls_global; int other(int x) { return x; } "
                   "int nowhere(int x) { return x; } int main(void) { return 0; }"}},
                 pie());
  const elf::AtomGraph graph = object.original("n.c");
  std::vector<elf::AtomSymbolId> wanted;
  for (const char* name : {"other_value", "other", "nowhere", "tls_global", "puts"}) {
    wanted.push_back(symbol(graph, name));
  }
  Report report;
  const Matched matched = match(graph, {}, wanted, target.target(), report);
  ASSERT_TRUE(report.clean()) << ids_of(report);
  EXPECT_EQ(matched.bindings[wanted[0]].address, *target.truth("other_value"));
  EXPECT_EQ(matched.bindings[wanted[1]].address, *target.truth("other"));
  EXPECT_EQ(matched.bindings[wanted[2]].kind, BindingKind::Import);
  EXPECT_EQ(matched.bindings[wanted[2]].evidence, Evidence::None);
  EXPECT_EQ(matched.bindings[wanted[2]].stub.value, 0u);
  EXPECT_EQ(matched.bindings[wanted[3]].kind, BindingKind::TpOffset);
  EXPECT_EQ(
      matched.bindings[wanted[3]].tp_offset,
      static_cast<int64_t>(target.truth("tls_global")->value) + *target.file().tls_block_end());
  EXPECT_EQ(matched.bindings[wanted[4]].kind, BindingKind::Import);
  EXPECT_EQ(matched.bindings[wanted[4]].version, "GLIBC_2.2.5");
  EXPECT_NE(matched.bindings[wanted[4]].stub.value, 0u);
}

// Claim: functions that the linker folded into one are all found there.
TEST(Bind, FoldedFunctions) {
  const char* const source = R"(
    __attribute__((noinline, noclone)) static int first(int x) { return x * 77 + 5; }
    __attribute__((noinline, noclone)) static int second(int x) { return x * 77 + 5; }
    int main(int c, char** v) { return first(c) + second(c + 1); })";
  const Program program({{"a.c", source}}, {"gcc-12",
                                            {"-O2", "-fno-ipa-icf", "-ffunction-sections", "-fPIE"},
                                            {"-pie", "-Wl,--icf=all"},
                                            "lld"});
  ASSERT_EQ(*program.truth("first"), *program.truth("second"));
  const elf::AtomGraph graph = program.original("a.c");
  Report report;
  const Matched matched = match(graph, {function(graph, "main")}, {}, program.target(), report);
  EXPECT_TRUE(report.clean()) << ids_of(report);
  EXPECT_EQ(matched.functions_proven, 3u);
}

// Claim: identical functions that were not folded are told apart by their callers.
TEST(Bind, TwinsAreToldApartByCallers) {
  const char* const source = R"(
    #define N __attribute__((noinline, noclone))
    static int state;
    N static int f(int x) { static int aaa; return x * 77 + aaa++; }
    N static int g(int x) { static int aaa; return x * 77 + aaa++; }
    int calls_f(int c) { return f(c); }
    int calls_g(int c) { return g(c); }
    int main(int c, char** v) { return calls_f(c) + calls_g(c) + state; })";
  const Program program({{"a.c", source}}, pie());
  const elf::AtomGraph graph = program.original("a.c");
  Report report;
  const Matched matched = match(graph, {function(graph, "f"), function(graph, "g")},
                                symbols_like(graph, "aaa"), program.target(), report);
  ASSERT_TRUE(report.clean()) << ids_of(report);
  EXPECT_EQ(matched.replaced[0].entry, *program.truth("f"));
  EXPECT_EQ(matched.replaced[1].entry, *program.truth("g"));
}

// Claim: a twin whose caller is not proven gets the place that is left.
TEST(Bind, PlaceThatIsLeft) {
  const auto source = [](const std::string& more) {
    return R"(
    #define N __attribute__((noinline, noclone))
    int one(int x) { N int inner(int y) { return y * 77 + 5; } return inner(x) + 1; }
    int two(int x) { N int inner(int y) { return y * 77 + 5; } return inner(x) + )" +
           more + "; } int main(int c, char** v) { return one(c) + two(c); }";
  };
  Recipe recipe = pie();
  recipe.compile.push_back("-fno-ipa-icf");
  const Program object({{"a.c", source("2")}}, recipe);
  const Program target({{"a.c", source("3")}}, recipe);
  const elf::AtomGraph graph = object.original("a.c");
  std::vector<elf::AtomId> twins;
  for (const elf::AtomSymbolId id : symbols_like(graph, "inner")) {
    twins.push_back(*graph.symbols[id].atom);
  }
  ASSERT_EQ(twins.size(), 2u);
  Report report;
  const Matched matched = match(graph, twins, {}, target.target(), report);
  ASSERT_TRUE(report.clean()) << ids_of(report);
  EXPECT_EQ(matched.replaced[0].entry, *target.truth(graph.name_of(twins[0])));
  EXPECT_EQ(matched.replaced[1].entry, *target.truth(graph.name_of(twins[1])));
}

// Claim: an IFUNC of the object is proven as its resolver, and bound to the stub that is called.
TEST(Bind, IndirectFunctions) {
  const char* const source = R"(
    static int slow(int x) { return x * 3; }
    static int (*choose(void))(int) { return slow; }
    int indirect(int) __attribute__((ifunc("choose")));
    int caller(int x) { return indirect(x) + 1; }
    int main(int c, char** v) { return caller(c); })";
  for (const char* link : {"-pie", "-no-pie"}) {
    const Program program({{"a.c", source}}, {"gcc-12", {"-O2", "-fPIE"}, {link}});
    const elf::AtomGraph graph = program.original("a.c");
    const elf::AtomSymbolId indirect = symbol(graph, "indirect");
    Report report;
    const Matched matched =
        match(graph, {function(graph, "caller")}, {indirect}, program.target(), report);
    ASSERT_TRUE(report.clean()) << link << ids_of(report);
    EXPECT_EQ(matched.functions_proven, matched.functions_tried);
    const ImportEntry* stub = program.symbols().import_by_stub(matched.bindings[indirect].address);
    ASSERT_NE(stub, nullptr) << link;
    EXPECT_EQ(stub->own, *program.truth("choose"));
  }
}

}  // namespace
}  // namespace qp::match
