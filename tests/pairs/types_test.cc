// Layouts of types and prototypes, from the debug information of two objects.

#include <gtest/gtest.h>

#include <set>

#include <fmt/format.h>

#include "compiled.h"
#include "elf/file.h"
#include "objdiff/type_layout.h"

namespace qp::pairs {
namespace {

Report compared(const std::string& original, const std::string& patched, const Compiler& compiler) {
  Report report;
  objdiff::compare_types(elf::File::parse(compile(compiler, original), "original.o"),
                         elf::File::parse(compile(compiler, patched), "patched.o"), report);
  return report;
}

// The ids and places that were refused, the same for every compiler and DWARF version.
std::string refused(const std::string& original, const std::string& patched) {
  std::string all;
  for (const Compiler& c :
       {Compiler{"gcc-12", {"-g"}}, Compiler{"gcc-12", {"-g", "-gdwarf-4", "-gz"}},
        Compiler{"clang-14", {"-g", "-O2"}}}) {
    Report report = compared(original, patched, c);
    EXPECT_EQ(report.warnings().size(), 0u);
    std::string text;
    for (const Refusal& r : report.refusals()) {
      text += r.id + ":" + r.where + ": " + r.detail + "\n";
    }
    if (all.empty() || c.name == "gcc-12") {
      all = text;
    } else {
      EXPECT_EQ(text, all) << c.text();
    }
  }
  return all;
}

const char* const kUser =
    "struct node *keep; int size(struct node *n) { return sizeof *n + n->value; }";
std::string with(const std::string& type) {
  return type + "\n" + kUser;
}

// Claim: a struct that grew is refused by name, and the member is named.
TEST(Types, StructGrew) {
  std::string text = refused(with("struct node { int value; struct node *next; };"),
                             with("struct node { int value; struct node *next; long extra; };"));
  EXPECT_EQ(text,
            "type-layout:node: struct node: member extra is new (size 16 → 24); used by "
            "keep, size\n");
}

// Claim: with many users some are named and the rest is counted; a type that nobody uses has none.
TEST(Types, UsersAreNamed) {
  std::string users = "; int a(struct node *n) { return n->value; }";
  for (const char* name : {"b", "c", "d", "e"}) {
    users +=
        fmt::format(" int {}(void) {{ struct node n[2] = {{{{0}}}}; return n[1].value; }}", name);
  }
  EXPECT_EQ(
      refused("struct node { int value; }" + users,
              "struct node { long before; int value; }" + users),
      "type-layout:node: struct node: member before is new (size 4 → 16); used by a, b, c and "
      "2 more\n");
}

// Claim: members that swap places are refused though the size is the same.
TEST(Types, MembersSwapped) {
  EXPECT_NE(refused(with("struct node { int value; int other; };"),
                    with("struct node { int other; int value; };"))
                .find("gone or moved"),
            std::string::npos);
}

// Claim: what a variable holds stays, so another type is refused at equal size too: of a global, a
// static local, a thread-local variable, a type without a name.
TEST(Types, VariablesKeepTheirType) {
  EXPECT_EQ(refused("int sum; int get(void) { return sum; }",
                    "float sum; int get(void) { return (int)sum; }"),
            "type-layout:sum: the variable was int and is float; what it holds stays\n");
  EXPECT_EQ(refused("int get(int x) { static int sum; return sum += x; }",
                    "int get(int x) { static float sum; return sum += x; }"),
            "type-layout:get::sum: the variable was int and is float; what it holds stays\n");
  EXPECT_EQ(refused("static __thread double sum; long get(long x) { return sum += x; }",
                    "static __thread char *sum; long get(long x) { return (long)(sum += x); }"),
            "type-layout:sum: the variable was double and is char *; what it holds stays\n");
  EXPECT_EQ(
      refused("static struct { int a; int b; } v; int get(int x) { v.b = x; return v.a++; }",
              "static struct { int b; int a; } v; int get(int x) { v.b = x; return v.a++; }"),
      "type-layout:v: the variable was struct { int a@0; int b@32; } of 8 and is struct { int "
      "b@0; int a@32; } of 8; what it holds stays\n");
}

// Claim: automatic variables may change their type.
TEST(Types, AutomaticVariablesMayChange) {
  EXPECT_EQ(refused("int g(int *); int get(int x) { int sum = x; return g(&sum); }",
                    "int g(int *); int get(int x) { long sum = x; return g((int *)&sum); }"),
            "");
}

// Claim: values of an enumeration without a name are stored too.
TEST(Types, ConstantsWithoutATag) {
  const char* kGet = "int v; int get(void) { return v == RUN ? v : IDLE; }";
  EXPECT_EQ(refused(std::string("enum { IDLE, RUN }; ") + kGet,
                    std::string("enum { IDLE, PREPARE, RUN }; ") + kGet),
            "type-layout:RUN: the value RUN is 2, not 1\n");
  EXPECT_EQ(refused(std::string("enum { IDLE, RUN }; ") + kGet,
                    std::string("enum { IDLE, RUN, STOP }; ") + kGet),
            "");
}

// Claim: a static variable with another name is a new one, and that is said.
TEST(Types, RenamedVariableIsAWarning) {
  const Report report =
      compared("static int total; int get(int x) { return total += x; }",
               "static int sum; int get(int x) { return sum += x; }", {"gcc-12", {"-g"}});
  EXPECT_TRUE(report.clean());
  ASSERT_EQ(report.warnings().size(), 1u);
  EXPECT_EQ(report.warnings()[0],
            "total is gone and sum of the same type is new: it does not get the value of the old "
            "one");
}

// Claim: a bit field that gets wider is refused.
TEST(Types, BitFieldWider) {
  EXPECT_EQ(
      refused(with("struct node { unsigned value : 3, b : 5; };"),
              with("struct node { unsigned value : 4, b : 4; };")),
      "type-layout:node: struct node: member value: offset 0, bit 0, 3 bits → offset 0, bit 0, "
      "4 bits; used by keep, size\n");
}

// Claim: a change inside an anonymous member shows in the named type around it.
TEST(Types, AnonymousInside) {
  EXPECT_NE(refused(with("struct node { int value; union { int a; char b; } u; };"),
                    with("struct node { int value; union { int a; char *b; } u; };"))
                .find("node"),
            std::string::npos);
}

// Claim: an anonymous type is known by its typedef.
TEST(Types, AnonymousTypedef) {
  std::string a = "typedef struct { int x; } point; int f(point *p) { return p->x; }";
  std::string b = "typedef struct { char *x; } point; int f(point *p) { return !p->x; }";
  EXPECT_NE(refused(a, b).find("type-layout:point"), std::string::npos);
}

// Claim: a new enumerator is fine, one whose value moved is refused.
TEST(Types, Enumerators) {
  std::string user = "; enum color c; int f(void) { return c; }";
  EXPECT_EQ(refused("enum color { RED, BLUE }" + user, "enum color { RED, BLUE, GREEN }" + user),
            "");
  EXPECT_EQ(refused("enum color { RED, BLUE, LAST }" + user,
                    "enum color { RED, BLUE, GREEN, LAST }" + user),
            "type-layout:color: enum color: the value LAST is 3, not 2; used by c\n");
}

// Claim: new types, renamed typedefs and comments change nothing.
TEST(Types, Harmless) {
  EXPECT_EQ(refused(with("typedef int number; struct node { number value; };"),
                    with("typedef int integer; struct fresh { int x; } fresh;\n"
                         "struct node { integer value; };")),
            "");
}

// Claim: the prototype of an external function is compared, that of a static one is not.
TEST(Types, Prototypes) {
  std::string text = refused("int f(int a) { return a; }", "int f(int a, int b) { return a + b; }");
  EXPECT_EQ(text, "prototype-changed:f: int (int) → int (int, int)\n");
  EXPECT_EQ(refused("static __attribute__((used)) int f(int a) { return a; }",
                    "static __attribute__((used)) int f(int a, int b) { return a + b; }"),
            "");
}

// The same for C++, both compilers.
std::string refused_cxx(const std::string& original, const std::string& patched) {
  std::string all;
  for (const Compiler& c :
       {Compiler{"g++-12", {"-x", "c++", "-g"}}, Compiler{"clang++-14", {"-x", "c++", "-g"}}}) {
    Report report = compared(original, patched, c);
    std::string text;
    for (const Refusal& r : report.refusals()) {
      text += r.id + ":" + r.where + ": " + r.detail + "\n";
    }
    if (c.name == "g++-12") {
      all = text;
    } else {
      EXPECT_EQ(text, all) << c.text();
    }
  }
  return all;
}

const char* const kShapes = R"(
namespace geo {
struct Base { virtual ~Base(); virtual int area() const; long id; };
class Square : public Base { public: int area() const override; static int count; private: int side; };
}
geo::Base::~Base() {}
int geo::Base::area() const { return 0; }
int geo::Square::area() const { return side * side; }
int use(const geo::Square &s) { return s.area(); }
)";
std::string shapes(const std::string& what, const std::string& with) {
  std::string text = kShapes;
  return text.replace(text.find(what), what.size(), with);
}

// Claim: a class that grew is refused by its qualified name; so is what inherits from it.
TEST(Types, ClassGrew) {
  std::string text = refused_cxx(kShapes, shapes("int side;", "int side; int more[4];"));
  EXPECT_NE(text.find("type-layout:geo::Square: class geo::Square: member more is new"),
            std::string::npos)
      << text;
  text = refused_cxx(kShapes, shapes("long id;", "long id; long other;"));
  EXPECT_NE(text.find("type-layout:geo::Base:"), std::string::npos) << text;
  EXPECT_NE(text.find("type-layout:geo::Square:"), std::string::npos) << text;
}

// Claim: variables of one name in two namespaces are compared each with itself; where they are
// defined does not matter.
TEST(Types, VariablesOfNamespaces) {
  const std::string users =
      "\nint get() { return (int)(a::sum + b::sum + a::kept + b::kept); }\n"
      "void set(int x) { a::sum = x; b::sum = x; a::kept = x; b::kept = x; }";
  const auto text = [&](const std::string& first, const std::string& second) {
    return "namespace a { extern " + first + " sum; static " + first + " kept; } " + first +
           " a::sum; namespace b { " + second + " sum; static " + second + " kept; }" + users;
  };
  for (const Compiler& c :
       {Compiler{"g++-12", {"-x", "c++", "-g"}}, Compiler{"clang++-14", {"-x", "c++", "-g"}}}) {
    EXPECT_TRUE(compared(text("int", "long"), text("int", "long"), c).clean()) << c.text();
    std::set<std::string> where;
    const Report swapped = compared(text("int", "long"), text("long", "int"), c);
    for (const Refusal& r : swapped.refusals()) {
      where.insert(r.where);
    }
    // What has no linkage has no such name with GCC.
    EXPECT_EQ(where.size(), 4u) << c.text();
    EXPECT_TRUE(where.contains("_ZN1a3sumE") && where.contains("_ZN1b3sumE")) << c.text();
  }
}

// Claim: a virtual function that is new or moves is refused though no member moves.
TEST(Types, VtableChanged) {
  std::string text = refused_cxx(
      kShapes,
      shapes("virtual int area() const;", "virtual int before() const; virtual int area() const;"));
  EXPECT_NE(text.find("type-layout:geo::Base:"), std::string::npos) << text;
  EXPECT_NE(text.find("vtable"), std::string::npos) << text;
  text = refused_cxx(kShapes, shapes("virtual int area() const; long",
                                     "virtual int area() const; virtual int more(); long"));
  EXPECT_NE(text.find("is new"), std::string::npos) << text;
}

// Claim: what no object holds may change: methods, static members, access, another overload.
TEST(Types, HarmlessInClasses) {
  EXPECT_EQ(
      refused_cxx(kShapes, shapes("static int count;", "static int count, other; int plain();")),
      "");
  EXPECT_EQ(refused_cxx(kShapes, shapes("private: int side", "protected: int side")), "");
  EXPECT_EQ(refused_cxx(kShapes, std::string(kShapes) + "int use(int x) { return x; }\n"), "");
}

// Claim: a type is waived by its name.
TEST(Types, Waiver) {
  Report report({"type-layout:node"});
  Compiler c{"gcc-12", {"-g"}};
  objdiff::compare_types(
      elf::File::parse(compile(c, with("struct node { int value; };")), "original.o"),
      elf::File::parse(compile(c, with("struct node { int value; int b; };")), "patched.o"),
      report);
  EXPECT_TRUE(report.clean());
  EXPECT_EQ(report.waived().size(), 1u);
}

// Claim: without debug information it says that nothing was compared.
TEST(Types, NoDebugInformation) {
  Report report =
      compared("int f(void) { return 1; }", "int f(void) { return 1; }", {"gcc-12", {}});
  EXPECT_EQ(report.warnings().size(), 1u);
}

}  // namespace
}  // namespace qp::pairs
