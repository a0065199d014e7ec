// The proof accepts what a compiler and a linker made of the source, whatever they did to it.
#include "match/proof.h"

#include <gtest/gtest.h>

#include "match/bind.h"
#include "match/candidates.h"
#include "programs.h"
#include "sources.h"

namespace qp::match {
namespace {

struct Case {
  const char* name;
  const char* compiler;
  Words compile;
  Words link;
};
std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << c.name;
}

class EveryLinker : public testing::TestWithParam<Case> {};

void expect_all_proven(const Program& program, const std::string& path, const std::string& label) {
  const elf::AtomGraph graph = program.original(path);
  size_t tried = 0;
  for (const elf::AtomId id : all_functions(graph)) {
    const std::optional<LinkAddr> truth = program.truth(
        graph.name_of(id), graph.symbol_of(id).bind == elf::SymbolBind::Local ? path : "");
    if (!truth) {
      continue;  // inlined everywhere
    }
    ++tried;
    const UnitProof proof = prove_unit(graph, id, *truth, program.target());
    EXPECT_TRUE(proof.proven) << label << ": " << graph.name_of(id) << ": "
                              << (proof.difference ? proof.difference->what : "");
    for (const Solution& solution : proof.solutions) {
      const elf::AtomSymbol& symbol = graph.symbols[solution.symbol];
      if (symbol.anonymous || solution.binding.kind != elf::BindingKind::Address) {
        continue;
      }
      const auto entries = candidate_entries(program.symbols(), symbol);
      EXPECT_TRUE(std::any_of(entries.begin(), entries.end(),
                              [&](const MapEntry* entry) {
                                return entry->address == solution.binding.address ||
                                       entry->type ==
                                           elf::SymbolType::GnuIfunc;  // bound to its stub
                              }))
          << label << ": " << symbol.name;
    }
  }
  EXPECT_GE(tried, path == "a.c" ? 14u : 2u) << label;
}

// The target is stripped, and whatever is found in it by its code is where the symbol table had it.
void expect_nothing_wrong(const Program& program, const std::string& path,
                          const std::string& label) {
  const elf::AtomGraph graph = program.original(path);
  Report report;
  const Matched matched = match(graph, all_functions(graph), {}, program.target(), report);
  for (const ReplacedUnit& unit : matched.replaced) {
    const elf::AtomSymbol& symbol = graph.symbol_of(unit.function);
    if (!unit.ranges.empty()) {
      EXPECT_EQ(unit.entry,
                program.truth(symbol.name, symbol.bind == elf::SymbolBind::Local ? path : ""))
          << label << ", stripped: " << symbol.name;
    }
  }
  if (path == "a.c") {
    EXPECT_GE(matched.functions_proven, matched.functions_tried * 3 / 4) << label;
  }
}

// Claim: every function is proven at its true place, and every solved address is a right one; also
// without names nothing is found at a wrong place.
TEST_P(EveryLinker, ProvesEveryFunction) {
  const Case& c = GetParam();
  Program program(everything(), {c.compiler, c.compile, c.link, "bfd"});
  for (const char* linker : {"bfd", "gold", "lld", "mold"}) {
    if (std::string(linker) == "gold" && c.link == Words{"-static-pie"}) {
      continue;  // gold can't link one
    }
    program.link(linker);
    expect_all_proven(program, "a.c", linker);
    expect_all_proven(program, "b.c", linker);
    program.strip();
    expect_nothing_wrong(program, "a.c", linker);
    expect_nothing_wrong(program, "b.c", linker);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Gcc, EveryLinker,
    testing::Values(
        Case{"pie_o2", "gcc-12", {"-O2", "-fPIE"}, {"-pie"}},
        Case{"pie_o0", "gcc-12", {"-O0", "-fPIE"}, {"-pie"}},
        Case{"fixed_o2", "gcc-12", {"-O2", "-fno-pie"}, {"-no-pie"}},
        Case{"fixed_o0", "gcc-12", {"-O0", "-fno-pie"}, {"-no-pie"}},
        Case{"no_plt_now", "gcc-12", {"-O2", "-fPIE", "-fno-plt"}, {"-pie", "-Wl,-z,now"}},
        Case{"no_plt_fixed", "gcc-12", {"-O2", "-fPIC", "-fno-plt"}, {"-no-pie"}},
        Case{"no_relax", "gcc-12", {"-O2", "-fPIC", "-fno-plt"}, {"-pie", "-Wl,--no-relax"}},
        Case{"cet", "gcc-12", {"-O2", "-fPIE", "-fcf-protection"}, {"-pie"}},
        Case{"small", "gcc-12", {"-Os", "-fPIE"}, {"-pie", "-Wl,--gc-sections"}},
        Case{"static_program", "gcc-12", {"-O2", "-fno-pie"}, {"-static"}},
        Case{"static_pie", "gcc-12", {"-O2", "-fPIE"}, {"-static-pie"}},
        Case{"library", "gcc-12", {"-O2", "-fPIC"}, {"-shared"}},
        Case{"tls_gd", "gcc-12", {"-O2", "-fPIC", "-ftls-model=global-dynamic"}, {"-pie"}},
        Case{"tls_gd_no_plt",
             "gcc-12",
             {"-O2", "-fPIC", "-fno-plt", "-ftls-model=global-dynamic"},
             {"-pie"}},
        Case{"tls_ld", "gcc-12", {"-O2", "-fPIC", "-ftls-model=local-dynamic"}, {"-pie"}},
        Case{"tls_ld_no_plt",
             "gcc-12",
             {"-O2", "-fPIC", "-fno-plt", "-ftls-model=local-dynamic"},
             {"-no-pie"}},
        Case{"tls_ie", "gcc-12", {"-O2", "-fPIC", "-ftls-model=initial-exec"}, {"-pie"}},
        Case{"tls_ie_library", "gcc-12", {"-O2", "-fPIC", "-ftls-model=initial-exec"}, {"-shared"}},
        Case{"tls_descriptors", "gcc-12", {"-O2", "-fPIC", "-mtls-dialect=gnu2"}, {"-pie"}},
        Case{"tls_descriptors_library",
             "gcc-12",
             {"-O2", "-fPIC", "-mtls-dialect=gnu2"},
             {"-shared"}}),
    [](const auto& param_info) { return param_info.param.name; });

INSTANTIATE_TEST_SUITE_P(
    Clang, EveryLinker,
    testing::Values(
        Case{"pie_o2", "clang-14", {"-O2", "-fPIE"}, {"-pie"}},
        Case{"pie_o0", "clang-14", {"-O0", "-fPIE"}, {"-pie"}},
        Case{"fixed_o2", "clang-14", {"-O2", "-fno-pie"}, {"-no-pie"}},
        Case{"no_plt", "clang-14", {"-O2", "-fPIE", "-fno-plt"}, {"-pie", "-Wl,-z,now"}},
        Case{"tls_gd", "clang-14", {"-O2", "-fPIC", "-ftls-model=global-dynamic"}, {"-pie"}},
        Case{"tls_ld", "clang-14", {"-O1", "-fPIC", "-ftls-model=local-dynamic"}, {"-pie"}}),
    [](const auto& param_info) { return param_info.param.name; });

// Claim: a function and its cold piece are proven together, and both ranges are reported.
TEST(Proof, ColdPieceBelongsToTheUnit) {
  const Program program(everything(), {"gcc-12", {"-O2", "-fPIE"}, {"-pie"}});
  const elf::AtomGraph graph = program.original("a.c");
  const UnitProof proof =
      prove_unit(graph, function(graph, "guarded"), *program.truth("guarded"), program.target());
  ASSERT_TRUE(proof.proven);
  ASSERT_EQ(proof.ranges.size(), 2u);
  EXPECT_EQ(proof.ranges[0].start, *program.truth("guarded"));
  EXPECT_EQ(proof.ranges[1].start, *program.truth("guarded.cold"));
}

// Claim: a call of an import solves to its name, version, stub and slot.
TEST(Proof, SolvesImports) {
  const Program program(everything(), {"gcc-12", {"-O2", "-fPIE"}, {"-pie"}});
  const elf::AtomGraph graph = program.original("a.c");
  const Proof proof =
      prove(graph, function(graph, "choose"), *program.truth("choose"), program.target());
  ASSERT_TRUE(proof.proven);
  const auto puts =
      std::find_if(proof.solutions.begin(), proof.solutions.end(),
                   [&](const Solution& s) { return graph.symbols[s.symbol].name == "puts"; });
  ASSERT_NE(puts, proof.solutions.end());
  EXPECT_EQ(puts->binding.kind, elf::BindingKind::Import);
  EXPECT_EQ(puts->binding.evidence, elf::Evidence::Proof);
  EXPECT_EQ(puts->binding.version, "GLIBC_2.2.5");
  EXPECT_NE(puts->binding.stub.value, 0u);
  EXPECT_NE(puts->binding.got_slot.value, 0u);
}

// Claim: the offset of a thread-local variable from the thread pointer is read from the code.
TEST(Proof, SolvesThreadLocals) {
  const Program program(everything(), {"gcc-12", {"-O2", "-fPIE"}, {"-pie"}});
  const elf::AtomGraph graph = program.original("a.c");
  const Proof proof = prove(graph, function(graph, "thread_local_sum"),
                            *program.truth("thread_local_sum"), program.target());
  ASSERT_TRUE(proof.proven) << proof.difference->what;
  size_t found = 0;
  for (const Solution& s : proof.solutions) {
    if (s.binding.kind == elf::BindingKind::TpOffset) {
      ++found;
      EXPECT_EQ(s.binding.tp_offset,
                static_cast<int64_t>(program.truth(graph.symbols[s.symbol].name)->value) +
                    *program.file().tls_block_end());
    }
  }
  EXPECT_EQ(found, 3u);
}

// Memory as ld.so leaves it.
class LiveReader final : public TargetReader {
 public:
  LiveReader(const Program& program, LoadBias bias) : start_(program.file().load_range().start) {
    bytes_.resize(program.file().load_range().size());
    for (uint64_t at = 0; at < bytes_.size(); at += kPageSize) {
      program.memory().read_some(start_ + at, ByteSpan(bytes_).subspan(at, kPageSize));
    }
    for (const elf::Relocation& r : program.file().dynamic_relocations()) {
      const bool relative = r.type == elf::RelocType::Relative;
      store(ByteSpan(bytes_), r.offset - start_.value,
            relative ? bias.value + static_cast<uint64_t>(r.addend) : uint64_t{0x7fff12345678});
    }
  }
  size_t read_some(LinkAddr at, ByteSpan out) const override {
    if (at < start_ || at.value - start_.value >= bytes_.size()) {
      return 0;
    }
    const uint64_t from = at.value - start_.value;
    const size_t count = std::min<size_t>(out.size(), bytes_.size() - from);
    std::copy_n(bytes_.begin() + static_cast<ptrdiff_t>(from), count, out.begin());
    return count;
  }
  void write(LinkAddr at, uint64_t word) { store(ByteSpan(bytes_), at.value - start_.value, word); }

 private:
  LinkAddr start_;
  Bytes bytes_;
};

// Claim: in a process, where pointers are biased and GOT slots filled, everything is proven too.
TEST(Proof, WorksOnLiveMemory) {
  const LoadBias bias{0x555555554000};
  for (const Words& flags : {Words{"-O2", "-fPIE"}, Words{"-O2", "-fPIC", "-fno-plt"}}) {
    const Program program(everything(), {"gcc-12", flags, {"-pie"}});
    const LiveReader live(program, bias);
    const elf::AtomGraph graph = program.original("a.c");
    Target target{live, program.symbols(), program.file().tls_block_end()};
    target.live_bias = bias;
    for (const elf::AtomId id : all_functions(graph)) {
      if (const auto truth = program.truth(
              graph.name_of(id), graph.symbol_of(id).bind == elf::SymbolBind::Local ? "a.c" : "")) {
        const UnitProof proof = prove_unit(graph, id, *truth, target);
        EXPECT_TRUE(proof.proven) << graph.name_of(id) << ": " << proof.difference->what;
      }
    }
  }
}

// Claim: a pointer in constant data that somebody changed in the process is noticed.
TEST(Proof, NoticesChangedPointersInTheProcess) {
  const LoadBias bias{0x555555554000};
  const Program program(everything(), {"gcc-12", {"-O2", "-fPIE"}, {"-pie"}});
  LiveReader live(program, bias);
  // A place of equal content, so that nothing but the pointer itself is different.
  live.write(*program.truth("names") + 8, bias(*program.truth("spare")).value);
  const elf::AtomGraph graph = program.original("a.c");
  Target target{live, program.symbols(), program.file().tls_block_end()};
  target.live_bias = bias;
  const UnitProof proof =
      prove_unit(graph, function(graph, "name_of"), *program.truth("name_of"), target);
  EXPECT_FALSE(proof.proven);
  EXPECT_NE(proof.difference->what.find("is not what ld.so writes there"), std::string::npos)
      << proof.difference->what;
}

// GCC without optimisation puts strings into .rodata, with padding between them that depends on
// what else is there. Claim: bytes that may be padding or data are compared and never skipped; with
// -fmerge-constants the object knows where its strings end, and the same target is proven.
TEST(Proof, PaddingBetweenConstantsIsNotGuessed) {
  const std::map<std::string, std::string> sources = {{"a.c", R"(
    static const char named[3] = "ab";
    const char* f(void) { return "four"; }
    const void* g(void) { return L"wide"; }
    int main(int c, char** v) { return f()[c] + *(const char*)g() + named[c]; })"}};
  const Program target(sources, {"gcc-12", {"-O0", "-fPIE"}, {"-pie"}});
  const Program merged(sources, {"gcc-12", {"-O0", "-fPIE", "-fmerge-constants"}, {"-pie"}});
  const LinkAddr f = *target.truth("f");
  const elf::AtomGraph plain = target.original("a.c");
  EXPECT_FALSE(prove(plain, function(plain, "f"), f, target.target()).proven);
  const elf::AtomGraph exact = merged.original("a.c");
  EXPECT_TRUE(prove(exact, function(exact, "f"), f, target.target()).proven);
}

// Claim: code that goes on where the original ends is another function.
TEST(Proof, LongerFunctionIsNotProven) {
  const char* const source = R"(
    void stop(int); 
    int f(int x) { stop(x); 
    #ifdef LONGER
      stop(x + 1); return 3;
    #else
      __builtin_unreachable();
    #endif
    }
    int main(int c, char** v) { return f(c); }
    void stop(int x) { __asm__ volatile("" : : "r"(x)); })";
  const Program program({{"a.c", source}}, {"gcc-12", {"-O0", "-fno-pie"}, {"-no-pie"}},
                        {"-DLONGER"});
  const elf::AtomGraph graph = program.original("a.c");
  EXPECT_FALSE(
      prove_unit(graph, function(graph, "f"), *program.truth("f"), program.target()).proven);
}

// Claim: nonsense for a candidate is a difference, not a crash.
TEST(Proof, UnmappedCandidates) {
  const Program program(everything(), {"gcc-12", {"-O2", "-fPIE"}, {"-pie"}});
  const elf::AtomGraph graph = program.original("a.c");
  const elf::AtomId id = function(graph, "choose");
  const LinkRange range = program.file().load_range();
  for (const LinkAddr at : {LinkAddr(0), LinkAddr(~uint64_t{0}), LinkAddr(~uint64_t{0} - 3),
                            range.end - 1, range.end, *program.truth("table")}) {
    const UnitProof proof = prove_unit(graph, id, at, program.target());
    EXPECT_FALSE(proof.proven);
    EXPECT_TRUE(proof.difference.has_value());
  }
}

}  // namespace
}  // namespace qp::match
