// Pairs whose difference lies in data that only the compiler has a name for, or none: strings,
// constants, tables.

#include "pair.h"

namespace qp::pairs {

std::vector<Pair> content_pairs() {
  std::vector<Pair> list;
  auto add = [&](Pair p) -> Pair& {
    list.push_back(std::move(p));
    return list.back();
  };

  const std::string table_switch = R"(
    KEEP int sw(int x) { switch (x) { case 0: return 7; case 1: return 91; case 2: return 55;
      case 3: return 19; case 4: return 212; case 5: return 33; case 6: return 8; default: return 0; } }
    KEEP int sw2(int x) { switch (x) { case 0: return 17; case 1: return 29; case 2: return 355;
      case 3: return 49; case 4: return 52; case 5: return 63; case 6: return 1; default: return 0; } })";
  add(edit("SwitchTable", table_switch, "return 55", "return 56", {"sw"}));

  const std::string arrays = R"(
    KEEP int first(int i) { int t[13] = {11,2,3,4,5,6,7,8,9,10,11,12,13}; use(t); return t[i]; }
    KEEP int second(int i) { int t[13] = {1,2,3,4,5,6,7,8,9,10,11,12,14}; use(t); return t[i]; })";
  add(edit("LocalArray", arrays, "4,5,6,7,8,9,10,11,12,14", "4,5,6,7,8,9,10,11,12,15", {"second"}));

  const std::string strings = R"(
    KEEP void narrow(void) { use("hello world %d\n"); }
    KEEP void same(void) { use("hello again %d\n"); }
    KEEP void wider(void) { use(L"wide string"); }
    KEEP void wider2(void) { use(L"wide strong"); }
    KEEP void inner(void) { use("abc\0def", 8); }
    KEEP void sixteen(void) { use(u"sixteen"); })";
  add(edit("String", strings, "hello world", "hello worlt", {"narrow"})).beside = {"same"};
  add(edit("WideString", strings, "wide string", "wide strung", {"wider"})).beside = {"wider2"};
  add(edit("Char16String", strings, "sixteen\"", "sixtean\"", {"sixteen"}));
  Pair& inner = add(edit("BytesAfterNul", strings, "\\0def", "\\0dex", {"inner"}));
  inner.beside = {"sixteen"};
  add(edit("StringUsedByTwo",
           "KEEP void a(void) { use(\"both\"); }\nKEEP void b(void) { use(\"both\"); }",
           "KEEP void b(void) { use(\"both\"", "KEEP void b(void) { use(\"none\"", {"b"}));

  add(edit("ConstantBesideMessage", R"(
    KEEP void warn(int x) { if (x) { use("file.c: warning", 17, x); } }
    KEEP void warn2(int x) { if (x) { use("file.c: warning", 18, x); } })",
           "17", "37", {"warn"}));

  const std::string floats = R"(
    KEEP double area(double r) { return r * r * 3.14159; }
    KEEP double length(double r) { return r * 6.28318; }
    KEEP float half(float x) { return x * 0.53f; }
    KEEP long double extended(long double x) { return x * 1.7L; })";
  add(edit("DoubleConstant", floats, "3.14159", "3.14160", {"area"}));
  add(edit("FloatConstant", floats, "0.53f", "0.54f", {"half"}));
  add(edit("LongDoubleConstant", floats, "1.7L", "1.8L", {"extended"}));

  const std::string tables = R"(
    static const int table[] = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9};
    KEEP int reader1(int i) { return table[i]; }
    KEEP int reader2(int i) { return table[i + 1] + g1(i); }
    KEEP int bystander(int i) { return g1(i); })";
  add(edit("ConstTable", tables, "9, 2, 6", "9, 2, 7", {"reader1", "reader2"})).included = {
      "table"};
  Pair unchanged_table = edit("ConstTableKept", tables, "g1(i); }\n    KEEP int by",
                              "g2(i); }\n    KEEP int by", {"reader2"});
  unchanged_table.bound = {"table", "g2"};
  add(unchanged_table);
  add(edit("ConstTableGrew", tables, "7, 9}", "7, 9, 3}", {"reader1", "reader2"}));
  add(refusal("ConstTableVisible", R"(
    const int table[] = {3, 1, 4, 1, 5, 9};
    KEEP int reader(int i) { return table[i]; })",
              "5, 9", "5, 8", {"reader"}, {"readonly-escapes"}));
  add(refusal("ConstTableEscapes", R"(
    static const int table[] = {3, 1, 4, 1, 5, 9};
    const int *keeper = table;
    KEEP int reader(int i) { return table[i]; })",
              "5, 9", "5, 8", {"reader"}, {"readonly-escapes", "initialiser-changed"}));
  add(edit("ConstTableOfStrings", R"(
    static const char *const names[] = {"red", "green", "blue"};
    KEEP const char *name(unsigned i) { use(names); return names[i % 3]; }
    KEEP int bystander(int i) { return g1(i); })",
           "\"blue\"", "\"brown\"", {"name"}));

  const std::string literals = R"(
    static const int *const shared = (const int[]){1, 2, 3};
    static int *const state = (int[]){7, 8};
    KEEP int reads(int i) { return shared[i] + g1(i); }
    KEEP int writes(int i) { return state[i & 1] += g2(i); }
    KEEP void makes(int i) { use((const int[]){4, 5, 6, i}, __func__); }
    KEEP void makes2(int i) { use((const int[]){4, 5, 7, i}, __func__); })";
  add(edit("CompoundLiteralLocal", literals, "4, 5, 7", "4, 5, 8", {"makes2"}));
  add(edit("CompoundLiteralUntouched", literals, "+ g1(i)", "+ g3(i)", {"reads"}));
  add(refusal("CompoundLiteralState", literals, "{7, 8}", "{7, 9}", {}, {"initialiser-changed"}));
  // One more of what compilers number renumbers the others.
  std::string first = table_switch.substr(0, table_switch.find("KEEP int sw2"));
  first = replaced(replaced(first, "int sw(", "int sw0("), "return 55", "return 155");
  add({"TablesRenumbered", table_switch, first + table_switch, {}}).fresh = {"sw0"};
  add(edit("FunctionNamesRenumbered", literals, "KEEP void makes(",
           "KEEP void before(int i) { use((const int[]){4, 5, 6, i}, __func__); }\n"
           "KEEP void makes(",
           {}))
      .fresh = {"before"};

  // A loop that ends at the end of one table ends at the start of the next.
  const std::string ends = R"(
    static const short left[] = {1, 2, 3, 4}, right[] = {5, 6, 7, 8};
    KEEP int sum(void) { int s = 0; for (const short *p = left; p != left + 4; ++p) { s += g1(*p); }
      return s; }
    KEEP int other(void) { int s = 0; for (const short *p = right; p != right + 4; ++p) {
      s += g2(*p); } return s; })";
  add(edit("OnePastTheEnd", ends, "7, 8", "7, 9", {"other"}));
  return list;
}

}  // namespace qp::pairs
