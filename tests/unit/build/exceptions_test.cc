// Which targets count as such that exceptions can pass through.
#include "program.h"

namespace qp::build {
namespace {

using Words = std::vector<std::string>;

// A program in C that is linked with an object of C++, and a change of its C code.
class Exceptions : public testing::Test {
 protected:
  std::string refusal(const std::string& text, const Words& compiler, const Words& link,
                      bool stripped = false) {
    const std::filesystem::path object = dir_.path() / "unit.o", source = dir_.path() / "unit.cc";
    write_file(source, as_bytes(text));
    Words command = compiler;
    command.insert(command.end(), {"-c", source.string(), "-o", object.string()});
    const RunResult result = run(command, {});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    Words options = {"-Wl,--build-id", object.string()};
    options.insert(options.end(), link.begin(), link.end());
    Program program({{"main.c",
                      "int f(int), of_cxx(int);\nint main(int c, char** v) { return f(c) + "
                      "of_cxx(c); }\n"},
                     {"f.c", kBefore}},
                    options);
    if (stripped) {
      program.strip();
    }
    return program.refusal({{"f.c", kAfter}});
  }
  // Enough code to be found without its name.
  static constexpr const char* kBefore =
      "static int n = 3;\nint f(int x) { n = n * 31 + x; return n ^ 0x1234; }\n"
      "int g(int x) { return f(x + 7) * n; }\n";
  static constexpr const char* kAfter =
      "static int n = 3;\nint f(int x) { n = n * 37 + x; return n ^ 0x1234; }\n"
      "int g(int x) { return f(x + 7) * n; }\n";
  static constexpr const char* kThrows =
      "extern \"C\" int of_cxx(int x) { try { if (x > 7) throw x; } catch (int) { return 1; } "
      "return 0; }\n";
  static constexpr const char* kPasses =
      "struct S { int (*call)(int); };\nstatic int id(int x) { return x; }\nS s = {id};\n"
      "extern \"C\" int of_cxx(int x) { return s.call(x) + 1; }\n";
  TempDir dir_{"qpatch-exceptions"};
};

// Refusal: exceptions-unsupported
// Claim: a target that throws and catches is refused, whoever compiled it.
TEST_F(Exceptions, ThrownAndCaught) {
  EXPECT_EQ(refusal(kThrows, {"g++", "-O2"}, {"-lstdc++"}), "exceptions-unsupported");
  EXPECT_EQ(refusal(kThrows, {"clang++-14", "-O2"}, {"-lstdc++"}, true), "exceptions-unsupported");
}

// Claim: also one that contains the runtime of C++ and has no names.
TEST_F(Exceptions, StaticRuntimeWithoutNames) {
  EXPECT_EQ(refusal(kThrows, {"g++", "-O2"},
                    {"-static-libgcc", "-Wl,-Bstatic", "-lstdc++", "-Wl,-Bdynamic", "-lm"}, true),
            "exceptions-unsupported");
}

// Claim: also one that only calls what throws in the library.
TEST_F(Exceptions, ThrownByTheLibrary) {
  EXPECT_EQ(refusal("#include <vector>\nstd::vector<int>* v;\n"
                    "extern \"C\" int of_cxx(int x) { return v == nullptr ? 0 : v->at(x); }\n",
                    {"g++", "-O2"}, {"-lstdc++"}, true),
            "exceptions-unsupported");
}

// Claim: code of C++ lets exceptions pass, unless it was compiled without them; C does not.
TEST_F(Exceptions, PassingThrough) {
  EXPECT_EQ(refusal(kPasses, {"g++", "-O2", "-g"}, {}), "exceptions-unsupported");
  EXPECT_EQ(refusal(kPasses, {"clang++-14", "-O2", "-g"}, {}), "exceptions-unsupported");
  EXPECT_EQ(refusal(kPasses, {"g++", "-O2", "-g", "-fno-exceptions"}, {}), "");
  EXPECT_EQ(refusal("int of_cxx(int x) { return x; }\n", {"gcc", "-x", "c", "-O2", "-g"}, {}), "");
}

// Claim: new code that throws is refused in a target that never did; the user can say that nothing is
// thrown.
TEST_F(Exceptions, ThrownByNewCode) {
  Program program({{"main.c", "int f(int);\nint main(int c, char** v) { return f(c); }\n"},
                   {"f.c", "int f(int x) { return x; }\n"}},
                  {"-Wl,--build-id"});
  const std::map<std::string, std::string> change = {
      {"f.c",
       "void __cxa_throw(void*, void*, void (*)(void*));\n"
       "int f(int x) { if (x > 70) __cxa_throw(0, 0, 0); return x; }\n"}};
  EXPECT_EQ(program.refusal(change), "exceptions-unsupported");
  program.waivers = {"exceptions-unsupported:prog"};
  Report waived(program.waivers);
  const Result result = program.build(change, waived);
  ASSERT_TRUE(result.patch.has_value());
  EXPECT_EQ(result.patch->parts[0].meta.waivers,
            std::vector<std::string>{"exceptions-unsupported:prog"});
}

}  // namespace
}  // namespace qp::build
