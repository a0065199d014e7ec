// Kinds of programs and libraries, times what their code can refer to. All features are functions of one
// victim, which a patch changes together, so that a kind costs one build: each answer of the patched
// process is compared with that of the same victim built from the patched source, and after the revert
// with that of one that was never patched.
//
// All three are asked the same questions in the same order, so that variables that exist go through the
// same values; functions do not change what the patch adds.

#include <gtest/gtest.h>

#include <memory>

#include "harness/library_victim.h"
#include "harness/workshop.h"

namespace qp::live {
namespace {
namespace fs = std::filesystem;

// Where a feature can't be.
enum Lack : unsigned {
  kNowhere = 0,
  kStatic = 1,  // only what is in the program already
  kClang = 2,   // no room for new thread-local variables
  kWeak = 4     // who defines what nobody had asked for is the linker's to say
};

struct Feature {
  std::string name;
  std::string before;              // text before the function
  std::string old_body, new_body;  // of int f(int x)
  unsigned lacks = kNowhere;
};

constexpr const char* kIncludes = R"(#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
)";

const std::vector<Feature>& features() {
  static const std::vector<Feature> all = {
      {"thread_local", "static __thread int t_first = 3;\n__thread int t_second = 4;\n",
       "return x + t_first++ + t_second;", "return 1000 + x + t_first++ + t_second;"},
      {"global_dynamic",
       "__thread int t_global __attribute__((tls_model(\"global-dynamic\"))) = 5;\n",
       "return x + t_global++;", "return 1000 + x + t_global++;"},
      {"local_dynamic",
       "static __thread int t_local __attribute__((tls_model(\"local-dynamic\"))) = 6;\n",
       "return x + t_local++;", "return 1000 + x + t_local++;"},
      {"initial_exec",
       "static __thread int t_initial __attribute__((tls_model(\"initial-exec\"))) = 7;\n",
       "return x + t_initial++;", "return 1000 + x + t_initial++;"},
      {"new_thread_local", "", "return x;",
       "static __thread int fresh = 9;\n  static __thread long zero;\n"
       "  return 1000 + fresh + (int)zero + x;",
       kClang},
      {"thread_local_elsewhere", "", "errno = x;\n  return errno;",
       "errno = x + 1;\n  return 1000 + errno;"},
      {"import_known", "static const char* volatile digits = \"12\";\n", "return x + atoi(digits);",
       "return 1000 + x + atoi(digits);"},
      {"import_new", "", "return x;", "return 1000 + x + (strverscmp(\"v9\", \"v10\") < 0);",
       kStatic},
      {"indirect_of_libc", "static const char* volatile text = \"four\";\n",
       "return x + (int)strlen(text);", "return 1000 + x + (int)strlen(text);"},
      {"copied_variable", "", "return x + (environ != 0);", "return 1000 + x + (environ != 0);"},
      {"weak_undefined", "extern int nowhere(void) __attribute__((weak));\n",
       "return nowhere ? nowhere() : x;", "return nowhere ? nowhere() : 1000 + x;"},
      {"weak_undefined_new", "extern int nothing __attribute__((weak));\n", "return x;",
       "return &nothing ? nothing : 1000 + x;", kWeak},
      {"constant_pointers",
       "__attribute__((noinline)) int plus(int x) { return x + 1; }\n"
       "static __attribute__((noinline)) int minus(int x) { return x - 1; }\n"
       "static volatile int which;\n",
       "return plus(x) * minus(x + 2) + which;",
       "static int (*const steps[])(int) = {minus, plus};\n"
       "  static const char* const words[] = {\"zero\", \"one\"};\n"
       "  return 1000 + steps[which](x) * steps[which + 1](x) + words[which][1];"},
      {"large_zeros", "", "return x;",
       "static char large[3 << 20];\n  large[x * 100000] = (char)x;\n"
       "  return 1000 + large[x * 100000] + large[sizeof large - 1];"},
      {"page_alignment", "", "return x;",
       "static int page[2] __attribute__((aligned(4096)));\n  page[1] = x;\n"
       "  return 1000 + page[1] + (int)((unsigned long)page & 4095);"},
      {"function_identity",
       "int f_function_identity(int);\n"
       "static int (*volatile kept)(int) = f_function_identity;\n",
       "return x + (kept == f_function_identity);",
       "return 1000 + x + (kept == f_function_identity);"},
      {"floating_constant", "static volatile double weight = 1.25;\n",
       "return x + (int)(weight * 8.0);", "return 1000 + x + (int)(weight * 80.0);"},
      {"jump_table", "",
       "switch (x) { case 1: return 5; case 2: return 9; case 3: return 2; case 4: return 7; "
       "case 5: return 1; default: return 0; }",
       "switch (x) { case 1: return 15; case 2: return errno; case 3: return atoi(\"3\"); "
       "case 4: return 17; case 5: return 11; default: return 10; }"},
      {"standard_stream", "", "return x + (stdout != 0);", "return 1001 + x + (stdout != 0);"},
  };
  return all;
}

struct Kind {
  std::string name;
  std::string compiler = "gcc";
  bool pie = true;
  std::vector<std::string> flags, link_flags;
  std::optional<Loading> library;
  unsigned lacks = kNowhere;
};

std::vector<const Feature*> features_of(const Kind& kind) {
  std::vector<const Feature*> out;
  for (const Feature& feature : features()) {
    if ((feature.lacks & kind.lacks) == 0) {
      out.push_back(&feature);
    }
  }
  return out;
}

// `int answer(int)` takes the number of a feature.
std::string text_of(const Kind& kind, bool patched) {
  std::string out = kIncludes, cases;
  int number = 0;
  for (const Feature* f : features_of(kind)) {
    out += f->before + "__attribute__((noinline)) int f_" + f->name + "(int x) {\n  " +
           (patched ? f->new_body : f->old_body) + "\n}\n";
    cases += "    case " + std::to_string(number++) + ":\n      return f_" + f->name + "(2);\n";
  }
  out += "int answer(int feature) {\n  switch (feature) {\n" + cases +
         "    default:\n      return (int)strtol(\"0\", 0, 10);\n  }\n}\n";
  if (!kind.library) {
    out += "void probe(const char* request) { printf(\"%d\", answer(atoi(request))); }\n";
  }
  return out;
}

// A victim with its patch, the same unpatched, and the one built from the patched source.
struct Three {
  std::unique_ptr<Victim> victim, unpatched, oracle;
  fs::path patch;
  CommandResult built;
};

std::ostream& operator<<(std::ostream& out, const Kind& kind) {
  return out << kind.name;
}

class Matrix : public testing::TestWithParam<Kind> {
 protected:
  static Three make_library(Workdir& dir, Workdir& other) {
    const Kind& kind = GetParam();
    const LibraryRecipe recipe{.original = text_of(kind, false),
                               .patched = text_of(kind, true),
                               .flags = kind.flags,
                               .link_flags = kind.link_flags,
                               .host = "void host_start(void) {}\n",
                               .compiler = kind.compiler};
    LibraryVictim made(dir, recipe, *kind.library);
    LibraryRecipe patched = recipe;
    patched.original = recipe.patched;
    LibraryVictim rebuilt(other, patched, *kind.library);
    return {made.start(), made.start(), rebuilt.start(), made.patch(), made.build_patch()};
  }

  static Three make_program(Workdir& dir) {
    const Kind& kind = GetParam();
    dir.write_file("case/victim.c", text_of(kind, false));
    dir.write_file("old/victim.c", text_of(kind, false));
    dir.write_file("new/victim.c", text_of(kind, true));
    dir.write_file("case/fix.patch", dir.run({"diff", "-u", "old/victim.c", "new/victim.c"}).out);
    Case what;
    what.name = kind.name;
    what.directory = dir.path() / "case";
    what.flags = kind.flags;
    what.link_flags = kind.link_flags;
    Workshop workshop(dir, what, {.compiler = kind.compiler, .pie = kind.pie, .optimise = "-O2"});
    const fs::path target = workshop.build_target(), patch = dir.path() / "fix.qp";
    const fs::path oracle = workshop.build_oracle();
    return {std::make_unique<Victim>(target), std::make_unique<Victim>(target),
            std::make_unique<Victim>(oracle), patch,
            dir.qpatch(workshop.build_arguments(target, patch), workshop.source_tree())};
  }

  // Every feature, twice.
  static void compare(Three& three, bool patched, const char* when) {
    const auto all = features_of(GetParam());
    for (size_t i = 0; i < 2 * all.size(); ++i) {
      const std::string question = std::to_string(i % all.size());
      const std::string answer = three.victim->ask(question), old = three.unpatched->ask(question),
                        rebuilt = three.oracle->ask(question);
      EXPECT_EQ(answer, patched ? rebuilt : old) << all[i % all.size()]->name << " " << when;
      EXPECT_NE(old, rebuilt) << all[i % all.size()]->name;
    }
  }
};

// Functions that qpatch says are replaced.
size_t count_functions(const CommandResult& listed) {
  size_t out = 0;
  for (size_t at = listed.out.find(" -> "); at != std::string::npos;
       at = listed.out.find(" -> ", at + 1)) {
    ++out;
  }
  return out;
}

// Claim: every feature has in each kind of program and library the answers of the rebuilt one, and after
// the revert the old ones.
TEST_P(Matrix, is_as_if_rebuilt) {
  Workdir dir("Matrix." + GetParam().name), other("Matrix." + GetParam().name + ".rebuilt");
  try {
    Three three = GetParam().library ? make_library(dir, other) : make_program(dir);
    ASSERT_EQ(three.built.exit_code, 0) << three.built.both();
    const std::string pid = std::to_string(three.victim->pid());
    compare(three, false, "before apply");
    const Snapshot before = take_snapshot(three.victim->pid());
    const CommandResult applied = dir.qpatch({"apply", three.patch, "--pid", pid});
    ASSERT_EQ(applied.exit_code, 0) << applied.both();
    const size_t functions = count_functions(dir.qpatch({"list", "--pid", pid}));
    EXPECT_GE(functions, features_of(GetParam()).size());
    EXPECT_EQ(wrongly_applied(before, take_snapshot(three.victim->pid()), functions), "");
    compare(three, true, "after apply");
    const std::string info = dir.qpatch({"info", three.patch, "--json"}).out;
    const std::string id = info.substr(info.find("\"id\": \"") + 7, 8);
    const CommandResult reverted = dir.qpatch({"revert", id, "--pid", pid});
    EXPECT_EQ(reverted.exit_code, 0) << reverted.both();
    compare(three, false, "after revert");
    EXPECT_EQ(
        left_behind(before, take_snapshot(three.victim->pid()), names(reverted.both(), "kept")),
        "");
    EXPECT_EQ(three.victim->finish(), 0);
  } catch (const std::exception& e) {  // the victim died
    ADD_FAILURE() << e.what();
  }
  if (HasFailure()) {
    dir.keep();
    other.keep();
    std::cout << "kept: " << dir.path().string() << "\n" << dir.transcript();
  }
}

INSTANTIATE_TEST_SUITE_P(
    Kind, Matrix,
    testing::Values(
        Kind{.name = "pie"}, Kind{.name = "no_pie", .pie = false, .lacks = kWeak},
        Kind{.name = "clang_pie", .compiler = "clang-14", .lacks = kClang},
        Kind{.name = "descriptors", .flags = {"-fPIC", "-mtls-dialect=gnu2"}},
        Kind{.name = "static_no_pie", .pie = false, .link_flags = {"-static"}, .lacks = kStatic},
        Kind{.name = "static_pie", .link_flags = {"-static-pie"}, .lacks = kStatic},
        Kind{.name = "musl", .compiler = "musl-gcc"},
        Kind{.name = "musl_static",
             .compiler = "musl-gcc",
             .pie = false,
             .link_flags = {"-static"},
             .lacks = kStatic},
        // musl-gcc knows no -static-pie.
        Kind{.name = "musl_static_pie",
             .compiler = "musl-gcc",
             .link_flags = {"-static", "-nostartfiles", "-Wl,-pie", "-Wl,--no-dynamic-linker",
                            "/usr/lib/x86_64-linux-musl/rcrt1.o",
                            "/usr/lib/x86_64-linux-musl/crti.o",
                            "/usr/lib/x86_64-linux-musl/crtn.o"},
             .lacks = kStatic},
        Kind{.name = "library_at_start", .library = Loading::AtStart},
        Kind{.name = "library_opened", .library = Loading::ByDlopenLocal},
        Kind{.name = "library_of_descriptors",
             .flags = {"-mtls-dialect=gnu2"},
             .library = Loading::ByDlopen}),
    [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace qp::live
