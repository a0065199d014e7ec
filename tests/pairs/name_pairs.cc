// Pairs in which names come, go or stay while nothing or little else happens: new and removed
// functions, aliases, weak and versioned symbols, indirect functions; and no change at all.

#include "pair.h"

namespace qp::pairs {

std::vector<Pair> name_pairs() {
  std::vector<Pair> list;
  auto add = [&](Pair p) -> Pair& {
    list.push_back(std::move(p));
    return list.back();
  };

  // New things.
  Pair& new_function = add(edit("NewStaticFunction", R"(
    KEEP int old(int x) { return g1(x); })",
                                "KEEP int old(int x) { return g1(x); }",
                                "KEEP static int helper(int x) { return g2(x) * 3; }\n"
                                "KEEP int old(int x) { return helper(g1(x)); }",
                                {"old"}));
  new_function.fresh = {"helper"};
  new_function.bound = {"g1", "g2"};
  Pair& new_global = add(edit("NewVariables", R"(
    KEEP int old(int x) { return g1(x); })",
                              "KEEP int old(int x) { return g1(x); }",
                              "int fresh = 4; static int quiet;\n"
                              "KEEP int old(int x) { use(&quiet); return g1(x) + fresh; }",
                              {"old"}));
  new_global.included = new_global.state = {"fresh", "quiet"};
  add(edit("NewString", "KEEP void f(void) { g1(1); }", "g1(1);", "use(\"brand new\");", {"f"}))
      .included = {"f", "…"};
  add(edit("FunctionRemoved",
           "KEEP int keep(int x) { return g1(x); }\nKEEP int gone(int x) { return g2(x); }",
           "KEEP int gone(int x) { return g2(x); }", "", {}))
      .removed = {"gone"};
  add(edit("StaticToGlobal", R"(
    KEEP static int moved(int x) { return g1(x) + 4; }
    KEEP int caller(int x) { return moved(x); })",
           "KEEP static int moved", "KEEP int moved", {}))
      // A global function begins with endbr64 there, or is called through the GOT: a real change.
      .where = [](const Compiler& c) {
    return !has_flag(c, "-fcf-protection=full") && !has_flag(c, "-fno-plt");
  };

  // Nothing at all.
  const std::string lines =
      "KEEP void f(int x) { use(\"line\", __LINE__); }\n"
      "KEEP void g(int x) { use(\"line\", __LINE__); }\n";
  add({"BlankLineWithLineDirective",
       "#line 10\n" + lines,
       "#line 10\n" +
           replaced(lines, "\nKEEP void g", "\n\n/* a comment */\n#line 11\nKEEP void g"),
       {}});
  add({"FunctionsReordered",
       "KEEP int a(int x) { static int s; return s += g1(x); }\n"
       "KEEP int b(int x) { static int s = 3; use(\"b\", 1.5); return s -= g2(x); }",
       "KEEP int b(int x) { static int s = 3; use(\"b\", 1.5); return s -= g2(x); }\n"
       "KEEP int a(int x) { static int s; return s += g1(x); }",
       {}});

  const std::string ifunc = R"(
    KEEP static int fast(int x) { return g1(x); }
    KEEP static int slow(int x) { return g2(x); }
    static void *resolve(void) { return g3(0) ? (void *)fast : (void *)slow; }
    int chosen(int x) __attribute__((ifunc("resolve")));
    KEEP int other(int x) { return g1(x) + 1; })";
  add(edit("IfuncUntouched", ifunc, "g1(x) + 1", "g1(x) + 2", {"other"}));
  add(edit("IfuncImplementation", ifunc, "return g2(x)", "return g3(x)", {"slow"}));

  add(edit("Symver", R"(
    KEEP int old_version(int x) { return g1(x); }
    __asm__(".symver old_version,versioned@V1");
    KEEP int user(int x) { return old_version(x) * 3; })",
           "* 3", "* 5", {"user"}));
  add(edit("Weak", R"(
    __attribute__((weak)) KEEP int weakly(int x) { return g1(x); }
    int strongly(int x) __attribute__((alias("weakly")));
    KEEP int user(int x) { return strongly(x) + 1; })",
           "+ 1", "+ 2", {"user"}));
  const std::string aliased = R"(
    KEEP int real(int x) { return g1(x) + 3; }
    KEEP int user(int x) { return real(x) + 1; })";
  const std::string alias = "int surname(int x) __attribute__((alias(\"real\")));\n";
  add({"AliasAdded", aliased, aliased + alias, {}});
  add({"AliasRemoved", aliased + alias, aliased, {}});
  Pair& through = add(edit("AliasedChanged", aliased + alias, "+ 3", "+ 4", {"real"}));
  through.included = {"real"};
  add(edit("WeakToStrong", "__attribute__((weak)) KEEP int f(int x) { return g1(x); }",
           "__attribute__((weak))", "", {}));
  add(edit("GlobalVariableToStatic", R"(
    int here = 4;
    KEEP int f(int x) { return here += g1(x); })",
           "int here", "static int here", {}))
      .where = executable_only;  // a shared library asks the GOT for a global
  return list;
}

}  // namespace qp::pairs