// Units that no diff touches, taken in because the target's names don't tell.
#include <algorithm>

#include "program.h"

namespace qp::build {
namespace {

// A function alone in its unit, with enough code to be searched for; one with a static variable, which
// confirms it; and main.
constexpr const char* kSum =
    "int sum(const char* s) { int h = 7; while (*s) h = h * 31 + *s++ - 0x1234; return h; }\n";
constexpr const char* kStep =
    "static int state = 3;\n"
    "int step(int x) { state = state * 0x5bd1 + x; return state >> 3; }\n"
    "int steps(void) { return state ^ 0x777777; }\n";
constexpr const char* kMain =
    "int sum(const char*), step(int), steps(void);\n"
    "int main(int c, char** v) { return sum(v[0]) + step(c) + steps(); }\n";

constexpr const char* kSumWithStep =
    "int step(int);\nint sum(const char* s) { int h = 7; while (*s) h = h * 31 + step(*s++) - "
    "0x1234; return h; }\n";

const elf::Binding& binding_of(const format::Patch& patch, const std::string& name) {
  for (size_t i = 0; i < patch.fresh.symbols.size(); ++i) {
    if (patch.fresh.symbols[i].name == name && !patch.fresh.symbols[i].atom) {
      return patch.fresh_bindings[i];
    }
  }
  throw std::runtime_error("the patch does not refer to " + name);
}

// Claim: a function that nothing in its own unit confirms is found by its caller in another one.
TEST(Context, CallersInOtherUnits) {
  Program program{{"main.c", kMain}, {"sum.c", kSum}, {"step.c", kStep}};
  program.strip();
  const format::Patch patch = program.patch({{"sum.c",
                                              "int sum(const char* s) { int h = 7; while (*s) h = "
                                              "h * 33 + *s++ - 0x1234; return h; }\n"}});
  ASSERT_EQ(patch.replaced.size(), 1u);
  EXPECT_EQ(patch.replaced[0].entry, program.address("sum"));
}

// Claim: new code may call a function of the target that its unit never mentioned.
TEST(Context, AFunctionThatTheUnitNeverMentioned) {
  Program program{{"main.c", kMain}, {"sum.c", kSum}, {"step.c", kStep}};
  program.strip();
  const format::Patch patch = program.patch({{"sum.c", kSumWithStep}});
  const elf::Binding& step = binding_of(patch, "step");
  EXPECT_EQ(step.kind, elf::BindingKind::Address);
  EXPECT_EQ(step.evidence, elf::Evidence::Proof);
  EXPECT_EQ(step.address, program.address("step"));
}

// Claim: a hidden global, which is local in the target's symbol table as statics are, is found by the
// units that define or call it, and nothing is left to ld.so.
TEST(Context, AGlobalThatTheLinkerMadeLocal) {
  const std::string hidden = std::string("#pragma GCC visibility push(hidden)\n") + kStep;
  for (const char* linker : {"bfd", "gold", "lld", "mold"}) {
    Program program({{"main.c", kMain}, {"sum.c", kSum}, {"step.c", hidden.c_str()}},
                    {"-Wl,--build-id", std::string("-fuse-ld=") + linker});
    const format::Patch patch = program.patch({{"sum.c", kSumWithStep}});
    const elf::Binding& step = binding_of(patch, "step");
    EXPECT_EQ(step.kind, elf::BindingKind::Address) << linker;
    EXPECT_EQ(step.address, program.address("step")) << linker;
  }
}

// Claim: a static of another unit is not taken for a function of libc that has its name.
TEST(Context, AStaticWithTheNameOfAnImport) {
  const std::string other =
      std::string("static __attribute__((noinline)) int getppid(int x) { return x * 3; }\n") +
      "static int state = 3;\nint step(int x) { state = state * 0x5bd1 + getppid(x); return state; "
      "}\nint steps(void) { return state ^ 0x777777; }\n";
  Program program{{"main.c", kMain}, {"sum.c", kSum}, {"step.c", other.c_str()}};
  const format::Patch patch = program.patch(
      {{"sum.c",
        "int getppid(void);\nint sum(const char* s) { int h = 7; while (*s) h = h * 31 + *s++ - "
        "0x1234; return h + getppid(); }\n"}});
  EXPECT_EQ(binding_of(patch, "getppid").kind, elf::BindingKind::Import);
}

// Claim: what a unit mentions whose command can't be parsed is not said to be another module's.
TEST(Context, ACommandThatCantBeParsed) {
  const std::string other =
      std::string("static __attribute__((noinline)) int getppid(int x) { return x * 3; }\n") +
      "static int state = 3;\nint step(int x) { state = state * 0x5bd1 + getppid(x); return state; "
      "}\nint steps(void) { return state ^ 0x777777; }\n";
  const std::map<std::string, std::string> change = {
      {"sum.c",
       "int getppid(void);\nint sum(const char* s) { int h = 7; while (*s) h = h * 31 + *s++ - "
       "0x1234; return h + getppid(); }\n"}};
  Program program{{"main.c", kMain}, {"sum.c", kSum}, {"step.c", other.c_str()}};
  program.project().write("unread.c", "int getppid(void) { return 3; }\n");
  program.add_shell_entry("unread.c", "gcc -c ../unread.c -o unread.o && true");
  EXPECT_EQ(program.refusal(change), "symbol-missing");
  program.project().write("unread.c", "int getpid(void) { return 3; }\n");
  EXPECT_EQ(program.refusal(change), "");
}

// Claim: a new alias is where its function is, for other units of the patch as well.
TEST(Context, ANewAliasUsedElsewhere) {
  Program program{{"main.c", kMain}, {"sum.c", kSum}, {"step.c", kStep}};
  const std::string alias = std::string(kStep) +
                            "int pace(int x) __attribute__((alias(\"step\")));\n"
                            "int more(void) { return state + 5; }\n";
  const format::Patch patch = program.patch(
      {{"step.c", alias},
       {"sum.c",
        "int pace(int), more(void);\nint sum(const char* s) { int h = 7; while (*s) h = h * 31 + "
        "pace(*s++) - 0x1234; return h + more(); }\n"}});
  const elf::Binding& pace = binding_of(patch, "pace");
  EXPECT_EQ(pace.kind, elf::BindingKind::Address);
  EXPECT_EQ(pace.address, program.address("step"));
}

// Claim: where nobody tells whether a local symbol is a static or a global, new code does not use it,
// nor another module's.
TEST(Context, ALocalSymbolThatNobodyExplains) {
  const std::string hidden =
      "#define JOIN(a, b) a##b\n#pragma GCC visibility push(hidden)\n"
      "int JOIN(sp, are)(int x) { return x * 77 + 5; }\n" +
      std::string(kStep);
  Program program({{"main.c", kMain}, {"sum.c", kSum}, {"step.c", hidden.c_str()}},
                  {"-Wl,--build-id", "-fuse-ld=lld"});
  EXPECT_EQ(program.refusal({{"sum.c",
                              "int spare(int);\nint sum(const char* s) { int h = 7; while (*s) h = "
                              "h * 31 + spare(*s++) - 0x1234; return h; }\n"}}),
            "symbol-ambiguous");
}

// Claim: in a target without names, what a unit of the database defines is not looked for in other
// modules, although nothing shows where it is.
TEST(Context, DefinedSomewhereInTheProgram) {
  Program program{{"main.c", kMain},
                  {"sum.c", kSum},
                  {"step.c", kStep},
                  {"level.c",
                   "int verbose = 1;\n"
                   "__attribute__((noinline)) int level(void) { return 10 + verbose; }\n"
                   "int used(void) { return level(); }\n"}};
  program.strip();
  EXPECT_EQ(
      program.refusal({{"sum.c",
                        "int level(void);\nint sum(const char* s) { int h = 7; while (*s) h = "
                        "h * 31 + *s++ - 0x1234; return h + level(); }\n"}}),
      "symbol-missing");
}

// Claim: what the diff found wrong stays found, although new code names something unknown.
TEST(Context, FindingsOfTheDiffStay) {
  const std::string with_struct =
      "struct pair { int a, b; };\nint step(int);\nstatic int total(struct pair* p) { return p->a "
      "* 77 "
      "+ p->b; }\nint sum(const char* s) { struct pair p = {s[0], s[1]}; return total(&p) + "
      "0x4321; }\n";
  Program program{{"main.c", kMain}, {"sum.c", with_struct.c_str()}, {"step.c", kStep}};
  program.strip();
  std::string grown = with_struct;
  grown.replace(grown.find("int a, b;"), 9, "int a, b, c;");
  grown.replace(grown.find("total(&p) +"), 11, "step(total(&p)) +");
  EXPECT_EQ(program.refusal({{"sum.c", grown}}), "type-layout");
}

// Claim: a command that can't be replayed does not end a build that could only have used it.
TEST(Context, ACommandThatCantBeReplayed) {
  Program program{{"main.c", kMain}, {"sum.c", kSum}, {"step.c", kStep}, {"other.c", kMain}};
  program.add_misnamed_entry("other.c");
  program.strip();
  Report report;
  const Result result = program.build({{"sum.c",
                                        "int sum(const char* s) { int h = 7; while (*s) h = h * 33 "
                                        "+ *s++ - 0x1234; return h; }\n"}},
                                      report);
  EXPECT_TRUE(report.clean());
  EXPECT_TRUE(result.patch.has_value());
  EXPECT_TRUE(std::any_of(result.warnings.begin(), result.warnings.end(), [](const auto& warning) {
    return warning.find("other.c was not used to find symbols") != std::string::npos;
  }));
}

// Claim: a global that units of the database have at two places of the target is not bound to one.
TEST(Context, AGlobalWithTwoPlaces) {
  const std::string impostor =
      "static int count = 3;\n"
      "int step(int x) { count = count * 0x1f35 + x; return count >> 5; }\n"
      "int counts(void) { return count ^ 0x555555; }\n";
  std::string twin = impostor;
  twin.replace(twin.find("int step"), 8, "int tick");
  Program program{{"main.c",
                   "int sum(const char*), step(int), steps(void), tick(int), counts(void);\n"
                   "int main(int c, char** v) { return sum(v[0]) + step(c) + steps() + tick(c) + "
                   "counts(); }\n"},
                  {"sum.c", kSum},
                  {"step.c", kStep},
                  {"twin.c", twin.c_str()},
                  {"other.c", impostor.c_str()}};
  program.strip();
  EXPECT_EQ(program.refusal(
                {{"sum.c",
                  "int step(int);\nint sum(const char* s) { int h = 7; while (*s) h = h * 31 + "
                  "step(*s++) - 0x1234; return h; }\n"}}),
            "symbol-ambiguous");
}

}  // namespace
}  // namespace qp::build
