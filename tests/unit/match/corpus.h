// A generated program, full of near twins.
#pragma once

#include <map>
#include <random>
#include <string>

#include <fmt/format.h>

namespace qp::match {

constexpr int kFunctions = 80;

// Deterministic, and full of near twins: many functions differ in one constant, one callee or one
// variable only. Static names repeat in every file.
inline std::string generate(int file) {
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

inline std::map<std::string, std::string> corpus() {
  return {{"g0.c", generate(0)}, {"g1.c", generate(1)}, {"g2.c", generate(2)}};
}

}  // namespace qp::match
