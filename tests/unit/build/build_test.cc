// The whole of build() on small programs that are compiled and linked here. What is looked at is
// the patch as a value: which functions, which references lead where. Nothing runs.

#include "build/build.h"

#include <algorithm>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/subprocess.h"
#include "elf/file.h"
#include "format/file.h"
#include "match/symbol_map.h"
#include "program.h"

namespace qp::build {
namespace {

namespace fs = std::filesystem;

std::string replaced_names(const format::Patch& patch) {
  std::vector<std::string> names;
  for (const format::Replaced& r : patch.replaced) {
    names.push_back(r.name);
  }
  std::sort(names.begin(), names.end());
  std::string out;
  for (const std::string& name : names) {
    out += (out.empty() ? "" : " ") + name;
  }
  return out;
}

// The symbols that the new version of `function` refers to under this name.
std::vector<elf::AtomSymbolId> referred(const format::Patch& patch, const std::string& function,
                                        const std::string& name) {
  std::vector<elf::AtomSymbolId> out;
  for (const elf::Atom& atom : patch.fresh.atoms) {
    if (patch.fresh.symbols[atom.symbol].name != function) {
      continue;
    }
    for (const elf::Ref& ref : atom.refs) {
      if (patch.fresh.symbols[ref.symbol].name == name) {
        out.push_back(ref.symbol);
      }
    }
  }
  return out;
}

constexpr const char* kMain =
    "int f(int);\nint main(int argc, char** argv) { (void)argv; return f(argc); }\n";

// Claim: a changed function is replaced, at its place in the target, and nothing else is.
TEST(Build, ChangedFunction) {
  Program program{{"main.c", kMain},
                  {"f.c", "int f(int x) { return x + 1; }\nint g(void) { return 2; }\n"}};
  format::Patch patch =
      program.patch({{"f.c", "int f(int x) { return x + 7; }\nint g(void) { return 2; }\n"}});
  EXPECT_EQ(replaced_names(patch), "f");
  EXPECT_EQ(patch.replaced.at(0).entry, program.address("f"));
  EXPECT_EQ(patch.meta.target_name, "prog");
  EXPECT_EQ(patch.meta.sources, std::vector<std::string>{"../f.c"});
}

// Claim: the same inputs give the same bytes, whatever the order in which compilers end.
TEST(Build, IsDeterministic) {
  Program program{{"main.c", kMain}, {"f.c", "int f(int x) { return x + 1; }\n"}};
  std::map<std::string, std::string> change = {{"f.c", "int f(int x) { return x + 7; }\n"}};
  EXPECT_EQ(format::write_patch(program.patch(change)), format::write_patch(program.patch(change)));
}

// Claim: a call of a replaced function, also its own, goes to the old entry, where the detour is.
TEST(Build, ReplacedFunctionsAreReferredToByTheirOldEntry) {
  Program program{
      {"main.c", kMain},
      {"f.c",
       "__attribute__((noinline)) int h(int x) { return x < 2 ? 1 : x * h(x - 3) + h(x - 1); }\n"
       "typedef int fn(int);\nfn* volatile p;\nint f(int x) { p = h; return h(x) + 1; }\n"}};
  format::Patch patch = program.patch(
      {{"f.c",
        "__attribute__((noinline)) int h(int x) { return x < 2 ? 5 : x * h(x - 3) + h(x - 1); }\n"
        "typedef int fn(int);\nfn* volatile p;\nint f(int x) { p = h; return h(x) + 2; }\n"}});
  EXPECT_EQ(replaced_names(patch), "f h");
  size_t seen = 0;
  for (const char* function : {"f", "h"}) {
    for (elf::AtomSymbolId symbol : referred(patch, function, "h")) {
      EXPECT_FALSE(patch.fresh.symbols[symbol].atom);
      EXPECT_EQ(patch.fresh_bindings[symbol].address, program.address("h"));
      ++seen;
    }
  }
  EXPECT_GE(seen, 2u);
}

// Claim: a jump table and a cold piece lead into the new function, not into the old one.
TEST(Build, InsideOfAFunctionStaysInside) {
  std::string body =
      "int a(void), b(void), c(void), d(void), e(void);\n__attribute__((cold)) int slow(int);\n"
      "int f(int x) { if (x == 77) { x = slow(x); }\n"
      "switch (x) { case 0: return a(); case 1: return b() + 1; case 2: return c() * 2;\n"
      "case 3: return d() - 1; case 4: return e() ^ 3; case 5: return a() + b(); }\nreturn ";
  std::string original = body + "1; }\n";
  Program program{{"main.c", kMain},
                  {"x.c",
                   "int a(void){return 1;} int b(void){return 2;} int c(void){return 3;}\n"
                   "int d(void){return 4;} int e(void){return 5;} int slow(int x){return x;}\n"},
                  {"f.c", original.c_str()}};
  format::Patch patch = program.patch({{"f.c", body + "2; }\n"}});
  size_t from_table = 0, from_piece = 0;
  for (const elf::Atom& atom : patch.fresh.atoms) {
    for (const elf::Ref& ref : atom.refs) {
      const elf::AtomSymbol& symbol = patch.fresh.symbols[ref.symbol];
      bool is_table = atom.kind == elf::AtomKind::JumpTable;
      if (is_table || (atom.parent && symbol.name == "f")) {
        EXPECT_TRUE(symbol.atom) << symbol.name;
        (is_table ? from_table : from_piece) += 1;
      }
    }
  }
  EXPECT_GE(from_table, 6u);
  EXPECT_GE(from_piece, 1u);
}

// Claim: of two files with the same static function and variable, the one that was fixed is
// patched, and its own variable is used.
TEST(Build, SameNamedStatics) {
  Program program{
      {"main.c", kMain},
      {"a.c",
       "static int v;\nstatic __attribute__((noinline)) int s(int x) { return x + v++; }\n"
       "int ga(int x) { return s(x); }\n"},
      {"f.c",
       "int ga(int);\nstatic int v;\nstatic __attribute__((noinline)) int s(int x) { return x * "
       "v++; }\n"
       "int f(int x) { return s(x) + ga(x); }\n"}};
  format::Patch patch =
      program.patch({{"f.c",
                      "int ga(int);\nstatic int v;\nstatic __attribute__((noinline)) int s(int x) "
                      "{ return x - v++; }\n"
                      "int f(int x) { return s(x) + ga(x); }\n"}});
  EXPECT_EQ(replaced_names(patch), "s");
  EXPECT_EQ(patch.replaced.at(0).file, "f.c");
  // Both are called v; of the target's two the right one follows from the code of s in f.c.
  elf::File file = elf::File::open(program.target());
  match::SymbolMap map = match::SymbolMap::from_file(file);
  LinkAddr right;
  for (const match::MapEntry* entry : map.named("v")) {
    right = entry->file == "f.c" ? entry->address : right;
  }
  auto symbols = referred(patch, "s", "v");
  ASSERT_FALSE(symbols.empty());
  EXPECT_EQ(patch.fresh_bindings[symbols[0]].address, right);
}

// Claim: a new function of one unit that another unit calls is found in the patch, not in the
// target.
TEST(Build, NewGlobalAcrossUnits) {
  Program program{{"main.c", kMain},
                  {"f.c", "int f(int x) { return x + 1; }\n"},
                  {"a.c", "int u(int x) { return x; }\n"}};
  format::Patch patch = program.patch(
      {{"f.c", "int fresh(int);\nint f(int x) { return fresh(x) + 1; }\n"},
       {"a.c", "int fresh(int x) { return x * 5; }\nint u(int x) { return fresh(x) + x; }\n"}});
  EXPECT_EQ(replaced_names(patch), "f u");
  auto symbols = referred(patch, "f", "fresh");
  ASSERT_FALSE(symbols.empty());
  EXPECT_TRUE(patch.fresh.symbols[symbols[0]].atom);
}

// Claim: a call that the original never made is bound to the target's own global, or left as an
// import.
TEST(Build, NewReferences) {
  Program program{{"main.c", kMain},
                  {"a.c", "int present(int x) { return x; }\n"},
                  {"f.c", "int f(int x) { return x + 1; }\n"}};
  format::Patch patch = program.patch({{"f.c",
                                        "int present(int);\nint getppid(void);\nint f(int x) { "
                                        "return present(x) + getppid(); }\n"}});
  auto own = referred(patch, "f", "present"), foreign = referred(patch, "f", "getppid");
  ASSERT_TRUE(!own.empty() && !foreign.empty());
  EXPECT_EQ(patch.fresh_bindings[own[0]].kind, elf::BindingKind::Address);
  EXPECT_EQ(patch.fresh_bindings[own[0]].address, program.address("present"));
  EXPECT_EQ(patch.fresh_bindings[foreign[0]].kind, elf::BindingKind::Import);
}

// Claim: a changed header changes the functions of every unit that uses it.
TEST(Build, HeaderChange) {
  Program program{{"main.c", kMain},
                  {"include/h.h", "#define K 1\n"},
                  {"a.c", "#include \"h.h\"\nint u(int x) { return x * 3 + K; }\n"},
                  {"f.c", "#include \"h.h\"\nint u(int);\nint f(int x) { return u(x) - K; }\n"}};
  EXPECT_EQ(replaced_names(program.patch({{"include/h.h", "/* two lines\n */\n#define K 9\n"}})),
            "f u");
}

// Claim: a precompiled header does not hide the fix of the header that it was made from.
TEST(Build, PrecompiledHeaderIsNotUsed) {
  Program program{{"main.c", kMain},
                  {"include/h.h", "#define K 1\n"},
                  {"f.c", "#include \"h.h\"\nint f(int x) { return x + K; }\n"}};
  fs::path header = program.project().root() / "include/h.h";
  RunResult made = run({"gcc", "-g", "-O2", header.string(), "-o", header.string() + ".gch"});
  ASSERT_EQ(made.exit_code, 0) << made.err;
  EXPECT_EQ(replaced_names(program.patch({{"include/h.h", "#define K 9\n"}})), "f");
}

// Claim: a line added above an assert changes only the function that it is added to.
TEST(Build, LinesAreKept) {
  Program program{{"main.c", kMain},
                  {"f.c",
                   "#include <assert.h>\nint e(int x) { return x + 1; }\nint f(int x) {\n  "
                   "assert(x < 9);\n  return x;\n}\n"}};
  EXPECT_EQ(
      replaced_names(program.patch({{"f.c",
                                     "#include <assert.h>\nint e(int x) {\n\n  return x + 2; "
                                     "}\nint f(int x) {\n  assert(x < 9);\n  return x;\n}\n"}})),
      "e");
}

// Claim: a diff without effect on the code gives no patch, and a reason for each unit.
TEST(Build, NoChange) {
  Program program{{"main.c", kMain}, {"f.c", "int f(int x) { return x + 1; }\n"}};
  Report report;
  Result comment =
      program.build({{"f.c", "/* new */\n\nint f(int x) { return x + 1; }\n"}}, report);
  EXPECT_FALSE(comment.patch);
  ASSERT_EQ(comment.units.size(), 1u);
  EXPECT_EQ(comment.units[0].reason, "preprocessed text is equal (reads f.c)");
  EXPECT_FALSE(comment.units[0].compiled);
  Result renamed = program.build({{"f.c", "int f(int y) { return 1 + y; }\n"}}, report);
  EXPECT_FALSE(renamed.patch);
  EXPECT_EQ(renamed.units.at(0).reason, "compiled; its code is equal");
  EXPECT_TRUE(report.clean());
}

// Claim: a touched unit of another program is told and left out.
TEST(Build, UnitOfAnotherProgram) {
  Program program{{"main.c", kMain},
                  {"include/h.h", "#define K 1\n"},
                  {"other.c",
                   "#include \"h.h\"\nint other(int x) { return x + K; }\nint main(void) { return "
                   "other(2); }\n"},
                  {"f.c", "#include \"h.h\"\nint f(int x) { return x + K; }\n"}};
  Report report;
  Result result = program.build({{"include/h.h", "#define K 9\n"}}, report);
  for (const Refusal& r : report.refusals()) {
    ADD_FAILURE() << r.id << ": " << r.where << ": " << r.detail;
  }
  ASSERT_TRUE(result.patch);
  EXPECT_EQ(replaced_names(result.patch->parts[0]), "f");
  bool told = std::any_of(result.units.begin(), result.units.end(), [](const UnitResult& u) {
    return u.source == "../other.c" && u.reason.find("no part of the target") != std::string::npos;
  });
  EXPECT_TRUE(told);
}

// Claim: of two objects of one source, the one that the target holds is used.
TEST(Build, TwoObjectsOfOneSource) {
  const char* text = "#ifndef ADD\n#define ADD 1\n#endif\nint f(int x) { return x + ADD; }\n";
  Program program{{"main.c", kMain}, {"f.c", text}};
  program.add_entry("f.c", "other.o", {"-DADD=1000"});
  format::Patch patch = program.patch(
      {{"f.c", "#ifndef ADD\n#define ADD 1\n#endif\nint f(int x) { return x + 2 * ADD; }\n"}});
  ASSERT_EQ(replaced_names(patch), "f");
  // The immediate of the new code is 2, not 2000.
  EXPECT_EQ(patch.fresh.atoms[patch.replaced[0].new_function].bytes.size(),
            patch.old.atoms[patch.replaced[0].old_function].bytes.size());
}

// Claim: what is built from other sources is not patched: the code differs.
TEST(Refuse, CodeDiffers) {
  Program program{{"main.c", kMain}, {"f.c", "int f(int x) { return x + 1; }\n"}};
  program.project().write("f.c", "int f(int x) { return x * 31 + 4; }\n");
  EXPECT_EQ(program.refusal({{"f.c", "int f(int x) { return x * 31 + 5; }\n"}}), "code-differs");
}

// Refusal: unit-missing
// Claim: refusal unit-missing: a fix of another program's code only.
TEST(Refuse, UnitMissing) {
  Program program{{"main.c", kMain},
                  {"f.c", "int f(int x) { return x; }\n"},
                  {"other.c", "int other(int x) { return x + 1; }\n"}};
  EXPECT_EQ(program.refusal({{"other.c", "int other(int x) { return x + 2; }\n"}}), "unit-missing");
}

// Claim: a unit of another program that has the file name of one of the target's is left out, and
// that is said.
TEST(Build, SameFileNameInAnotherProgram) {
  Program program{{"main.c",
                   "#include \"h.h\"\nint f(int x) { return add(x) + 1; }\n"
                   "int main(int c, char** v) { return f(c); }\n"},
                  {"other/main.c",
                   "#include \"../h.h\"\nint f(int x) { return add(x * 7) ^ 0x1234; }\n"
                   "int main(int c, char** v) { return f(c) + f(c + 1); }\n"},
                  {"h.h", "static inline int add(int x) { return x * 3 + 5; }\n"}};
  Report report;
  const Result result =
      program.build({{"h.h", "static inline int add(int x) { return x * 3 + 6; }\n"}}, report);
  EXPECT_TRUE(report.clean()) << (report.clean() ? "" : report.refusals()[0].detail);
  EXPECT_TRUE(result.patch.has_value());
  EXPECT_TRUE(std::any_of(result.warnings.begin(), result.warnings.end(), [](const auto& warning) {
    return warning.find("other/main.c") != std::string::npos;
  }));
}

// Two units of one file name, both in the program, that read one header; the second one is compiled
// as `second` for the target.
struct TwoMains {
  explicit TwoMains(std::vector<std::string> link_options, const char* second = kSecond)
      : program({{"main.c",
                  "#include \"h.h\"\nint from_first(int x) { return add(x) + 1; }\n"
                  "int main(int c, char** v) { return from_first(c); }\n"},
                 {"sub/main.c", second},
                 {"h.h", "static inline int add(int x) { return x * 3 + 5; }\n"}},
                std::move(link_options)) {
    program.project().write("sub/main.c", kSecond);
  }
  std::string refusal() {
    return program.refusal({{"h.h", "static inline int add(int x) { return x * 3 + 6; }\n"}});
  }
  static constexpr const char* kSecond =
      "#include \"../h.h\"\nint from_second(int x) { return add(x * 7) ^ 0x1234; }\n";
  static constexpr const char* kOlder =
      "#include \"../h.h\"\nint from_second(int x) { return (add(x * 7) ^ 0x1234) + x; }\n";
  Program program;
};

// Claim: a target without FILE symbols does not show which units it lacks: a unit that is there in
// another version is refused, although one of its file name is proven.
TEST(Build, SameFileNameWithoutFileNames) {
  EXPECT_EQ(TwoMains({"-Wl,--build-id", "-Wl,-x"}).refusal(), "");
  EXPECT_EQ(TwoMains({"-Wl,--build-id", "-Wl,-x"}, TwoMains::kOlder).refusal(), "code-differs");
}

// Claim: one unit that the database has twice explains one FILE symbol.
TEST(Build, SameFileNameTwiceInTheDatabase) {
  TwoMains twice({"-Wl,--build-id"}, TwoMains::kOlder);
  twice.program.add_entry("main.c", "again.o", {});
  EXPECT_EQ(twice.refusal(), "code-differs");
}

// Claim: a unit that reaches another one's new thread-local variable by a descriptor brings the runtime
// for it along.
TEST(Build, DescriptorOfANewVariableOfAnotherUnit) {
  Program program({{"main.c", kMain},
                   {"a.c", "int counted(int x) { return x; }\n"},
                   {"f.c", "int f(int x) { return x + 1; }\n"}},
                  {"-Wl,--build-id"}, {"-fPIC", "-mtls-dialect=gnu2"});
  const format::Patch patch = program.patch(
      {{"a.c", "__thread int fresh = 3;\nint counted(int x) { return x; }\n"},
       {"f.c", "extern __thread int fresh;\nint f(int x) { return x + ++fresh; }\n"}});
  EXPECT_TRUE(std::any_of(
      patch.fresh.symbols.begin(), patch.fresh.symbols.end(),
      [](const elf::AtomSymbol& s) { return s.name == "qpatch_tls_descriptor" && s.atom; }));
}

// Refusal: source-not-compiled
// Claim: a fix of which one file is compiled by nothing is no patch; the user can say that the file
// does not belong to it.
TEST(Refuse, SourceNotCompiled) {
  Program program{{"main.c", kMain}, {"f.c", "int f(int x) { return x; }\n"}};
  program.project().write("elsewhere.c", "int g;\n");
  const std::map<std::string, std::string> change = {{"f.c", "int f(int x) { return x + 2; }\n"},
                                                     {"elsewhere.c", "int g = 1;\n"}};
  EXPECT_EQ(program.refusal(change), "source-not-compiled");
  program.waivers = {"source-not-compiled:elsewhere.c"};
  Report waived(program.waivers);
  const Result result = program.build(change, waived);
  ASSERT_TRUE(result.patch.has_value());
  EXPECT_EQ(result.patch->parts[0].meta.waivers,
            std::vector<std::string>{"source-not-compiled:elsewhere.c"});
}

// Refusal: definition-conflict
// Claim: refusal definition-conflict: a function that is moved from a unit which is not in the
// patch.
TEST(Refuse, DefinitionConflict) {
  Program program{{"main.c", kMain},
                  {"a.c", "int moved(int x) { return x + 1; }\n"},
                  {"f.c", "int moved(int);\nint f(int x) { return moved(x); }\n"}};
  EXPECT_EQ(program.refusal({{"f.c",
                              "__attribute__((noinline)) int moved(int x) { return x + 3; }\nint "
                              "f(int x) { return moved(x); }\n"}}),
            "definition-conflict");
}

// Claim: refusal lto-unsupported: the unit's command has -flto.
TEST(Refuse, LtoUnsupported) {
  Program program{{"main.c", kMain}, {"f.c", "int f(int x) { return x; }\n"}};
  program.add_entry("f.c", "lto.o", {"-flto"});
  EXPECT_EQ(program.refusal({{"f.c", "int f(int x) { return x + 2; }\n"}}), "lto-unsupported");
}

// Refusal: target-unsupported
// Claim: refusals of the target's kind come before anything is compiled.
TEST(Refuse, Targets) {
  std::map<std::string, std::string> change = {{"f.c", "int f(int x) { return x + 2; }\n"}};
  const char* f = "int f(int x) { return x; }\n";
  EXPECT_EQ((Program{{{"f.c", f}}, {"-r", "-Wl,--build-id"}}.refusal(change)),
            "target-unsupported");
  EXPECT_EQ((Program{{{"main.c", kMain}, {"f.c", f}}, {"-Wl,--build-id=none"}}.refusal(change)),
            "no-build-id");
}

}  // namespace
}  // namespace qp::build
