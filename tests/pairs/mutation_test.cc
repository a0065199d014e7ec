// Flips bits of real objects and demands that nobody fails to notice. Seeded, so a failure repeats.
//
// A mutant is an object in which one bit of code or data, or one relocation's addend, type or
// symbol, differs. Its diff with the original must report that unit (of data: any reader),
// or refuse; an object that can't be read any more is fine too. The few mutants that mean the same as
// the original are not counted: bits that a relocation overwrites, padding, and branches to a NOP
// before the same instruction.

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include <fmt/format.h>

#include "base/error.h"
#include "compiled.h"
#include "elf/file.h"
#include "insn/instruction.h"
#include "objdiff/code_map.h"
#include "objdiff/contents.h"
#include "objdiff/split.h"

namespace qp::pairs {
namespace {

const char* const kSource = R"(
#define KEEP __attribute__((noinline))
extern int g1(int), g2(int), g3(int);
extern void use(const void *, ...);
extern void fail(const char *, ...) __attribute__((cold, noreturn));
int counter = 5; static int hidden = 7; char *message = "text"; int list[4] = {1, 2, 3, 4};
struct op { int (*f)(int); const char *name; };
static const struct op ops[] = {{g1, "first"}, {g2, "second"}, {g3, "third"}};
static const char *const names[] = {"red", "green", "blue", "white"};
static const int table[] = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9};
KEEP int values(int x) { switch (x) { case 0: return 7; case 1: return 91; case 2: return 55; case 3:
  return 19; case 4: return 212; case 5: return 33; case 6: return 8; default: return 0; } }
KEEP int jumps(int x, int y) { switch (x) { case 0: return g1(y); case 1: return g2(y + 1); case 2:
  return g3(y + 2); case 3: return g1(y + 3) + 1; case 4: return g2(y * 4); case 5: return g3(y * 5) + 5;
  case 6: use("six"); return 6; default: return -1; } }
KEEP int work(int x) {
  if (__builtin_expect(x == 77, 0)) { fail("x %d", x); }
  counter += x * 3;
  if (__builtin_expect(x < 0, 0)) { use("negative", x); g3(9); x = 5; }
  for (int i = 0; i < x; ++i) { list[i & 3] += table[i % 15]; if (list[i & 3] == 9) { g1(i); } }
  return g1(x) + counter;
}
KEEP double area(double r, float s) { return r * r * 3.14159 + s * 0.53f; }
KEEP int arrays(int i) { int t[13] = {11,2,3,4,5,6,7,8,9,10,11,12,13}; use(t); return t[i]; }
KEEP const char *name(unsigned i) { use(names); return names[i % 4]; }
KEEP int call(unsigned i, int x) { use(ops[i % 3].name, L"wide"); return ops[i % 3].f(x); }
KEEP int locals(int x) { static int aaa; return ++aaa + hidden--; }
KEEP int locals2(int x) { static int aaa = 5; use("abc\0def", 8, message); return aaa += 2; }
KEEP int computed(int i) { static void *const labels[] = {&&a, &&b, &&c};
  goto *labels[i]; a: return g1(7); b: return g2(8); c: return g3(9); }
)";

struct Mutant {
  Bytes object;
  std::string what;
  std::string function;  // that was changed; "" if data was
};

class Mutator {
 public:
  Mutator(Bytes object, uint64_t seed)
      : object_(std::move(object)),
        file_(elf::File::parse(Bytes(object_), "original.o")),
        random_(seed) {
    for (const elf::Section& s : file_.sections()) {
      if (s.has(elf::kAlloc) && s.type != elf::SectionType::Note && s.name != ".eh_frame" &&
          s.type != elf::SectionType::NoBits && s.size != 0) {
        content_.push_back(&s);
      }
      if (s.type == elf::SectionType::Rela && s.size != 0 && !s.name.starts_with(".rela.debug") &&
          s.name != ".rela.eh_frame") {
        relocations_.push_back(&s);
      }
    }
  }

  // Nullopt: this one would mean the same.
  std::optional<Mutant> next() { return pick(3) == 0 ? relocation_mutant() : content_mutant(); }

 private:
  uint64_t pick(uint64_t n) { return random_() % n; }

  std::optional<Mutant> content_mutant() {
    const elf::Section& s = *content_[pick(content_.size())];
    uint64_t at = pick(s.size);
    unsigned bit = static_cast<unsigned>(pick(8));
    for (const elf::Relocation& r : file_.relocations(s)) {
      const elf::RelocTraits* t = elf::find_traits(r.type);
      if (t != nullptr && at >= r.offset && at < r.offset + t->width) {
        return std::nullopt;
      }
    }
    Bytes out = object_;
    out[s.offset.value + at] ^= std::byte{1} << bit;
    if (s.has(elf::kExec)) {
      objdiff::CodeMap map(file_.content(s));
      auto start = map.instruction_start(at);
      auto was = start ? insn::decode(file_.content(s), *start) : std::nullopt;
      if (!was || was->is_nop) {
        return std::nullopt;
      }
      auto is = insn::decode(ByteView(out).subspan(s.offset.value, s.size), *start);
      if (is && was->branch.size != 0 && is->branch.size == was->branch.size &&
          map.index_at(static_cast<int64_t>(*start) + *was->branch_target()) ==
              map.index_at(static_cast<int64_t>(*start) + *is->branch_target()) &&
          is->operation == was->operation) {
        return std::nullopt;
      }
    } else {
      bool inside = false;  // not padding
      for (const elf::Symbol& symbol : file_.symbols()) {
        inside = inside || (symbol.section == s.index && symbol.value <= at &&
                            (at < symbol.value + symbol.size || symbol.name.starts_with(".L")));
      }
      if (!inside) {
        return std::nullopt;
      }
    }
    return Mutant{std::move(out), fmt::format("{}+{:#x} bit {}", s.name, at, bit),
                  function_at(s, at)};
  }

  std::optional<Mutant> relocation_mutant() {
    const elf::Section& s = *relocations_[pick(relocations_.size())];
    const elf::Section& of = file_.sections()[s.info];
    auto list = file_.relocations(of);
    uint64_t n = pick(s.size / 24), at = s.offset.value + n * 24;
    const elf::Relocation& r = list[n];
    Bytes out = object_;
    uint64_t info = load<uint64_t>(out, at + 8);
    switch (pick(3)) {
      case 0: {
        auto addend = r.addend + (pick(2) == 0 ? 1 : -1) * static_cast<int64_t>(1 + pick(16));
        if (same_code(of, r, addend)) {
          return std::nullopt;
        }
        store(ByteSpan(out), at + 16, addend);
        return Mutant{std::move(out),
                      fmt::format("{} #{} addend {} → {}", s.name, n, r.addend, addend),
                      function_at(of, r.offset)};
      }
      case 1: {
        auto type = static_cast<elf::RelocType>(1 + pick(42));
        if (objdiff::reference_group(type) == objdiff::reference_group(r.type)) {
          return std::nullopt;
        }
        store(ByteSpan(out), at + 8, (info >> 32 << 32) | static_cast<uint32_t>(type));
        return Mutant{std::move(out),
                      fmt::format("{} #{} type {}", s.name, n, static_cast<int>(type)),
                      function_at(of, r.offset)};
      }
      default: {
        uint64_t symbol = 1 + pick(file_.symbols().size() - 1);
        const elf::Symbol &was = file_.symbols()[r.symbol], &is = file_.symbols()[symbol];
        bool same = is.section == was.section && is.value == was.value && is.defined();
        if (same || symbol == r.symbol || is.type == elf::SymbolType::File) {
          return std::nullopt;
        }
        store(ByteSpan(out), at + 8, symbol << 32 | (info & 0xffffffff));
        return Mutant{std::move(out),
                      fmt::format("{} #{} symbol {} → {}", s.name, n, was.name, is.name),
                      function_at(of, r.offset)};
      }
    }
  }

  std::string function_at(const elf::Section& section, uint64_t at) const {
    for (const elf::Symbol& s : file_.symbols()) {
      if (s.type == elf::SymbolType::Func && s.section == section.index && s.value <= at &&
          at < s.value + s.size) {
        return s.name;
      }
    }
    return "";
  }

  // A table entry that leads to the NOPs before the same instruction.
  bool same_code(const elf::Section& of, const elf::Relocation& r, int64_t addend) const {
    const elf::Symbol& to = file_.symbols()[r.symbol];
    if (of.has(elf::kExec) || to.section >= file_.sections().size() ||
        !file_.sections()[to.section].has(elf::kExec)) {
      return false;
    }
    objdiff::CodeMap map(file_.content(file_.sections()[to.section]));
    auto base = static_cast<int64_t>(to.value);
    base -= r.type == elf::RelocType::PC32 ? static_cast<int64_t>(r.offset) : 0;
    auto was = map.index_at(base + r.addend);
    return was && was == map.index_at(base + addend);
  }

  Bytes object_;
  elf::File file_;
  std::mt19937_64 random_;
  std::vector<const elf::Section*> content_, relocations_;
};

// "" if the diff found what it should: the unit that has the function, or a refusal; for data, any
// reader or a refusal.
std::string missed(const Bytes& original, const Mutant& mutant) {
  Outcome found;
  try {
    found = diff_objects(original, mutant.object);
  } catch (const Error&) {
    return "";  // no object any more
  }
  if (!found.report.clean()) {
    return "";
  }
  bool any = false;
  for (const objdiff::Unit& u : found.diff.units) {
    if (u.fate == objdiff::Fate::Same) {
      continue;
    }
    any = true;
    bool has = u.name == mutant.function;
    for (elf::AtomId piece : u.original_pieces) {
      has = has || found.diff.original.name_of(piece) == mutant.function;
    }
    if (has || mutant.function.empty()) {
      return "";
    }
  }
  return any ? "another unit was found than " + mutant.function + ":\n" + found.text() : "nothing";
}

class Mutation : public testing::TestWithParam<Compiler> {};

// Claim: every one of a thousand mutants of an object is found, in the unit that was changed.
TEST_P(Mutation, IsFound) {
  Bytes original = compile(GetParam(), kSource);
  ASSERT_EQ(missed(original, {original, "", ""}), "nothing");
  Mutator mutator(original, 20240229);
  int tried = 0;
  for (int n = 0; n < 2000 && tried < 1000; ++n) {
    if (auto mutant = mutator.next()) {
      ++tried;
      EXPECT_EQ(missed(original, *mutant), "") << GetParam().text() << ": " << mutant->what;
    }
  }
  EXPECT_GE(tried, 800);
}

INSTANTIATE_TEST_SUITE_P(
    C, Mutation,
    testing::Values(Compiler{"gcc-12", {"-O2", "-fno-pie"}}, Compiler{"gcc-12", {"-O0", "-fPIC"}},
                    Compiler{"gcc-12", {"-O3", "-fPIC", "-fno-plt"}},
                    Compiler{"gcc-12", {"-Os", "-fPIE", "-fcf-protection=full"}},
                    Compiler{"clang-14", {"-O3", "-fPIC"}},
                    Compiler{"clang-14", {"-Os", "-fno-pie"}},
                    Compiler{"clang-14", {"-O2", "-fPIE"}},
                    Compiler{"clang-14", {"-O0", "-fno-pie"}}),
    [](const auto& test) { return "Seed" + std::to_string(test.index); });

}  // namespace
}  // namespace qp::pairs
