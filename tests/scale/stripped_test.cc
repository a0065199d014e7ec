// The match on a real program without names: Open vSwitch's ovs-vswitchd, stripped, with its
// unstripped twin as the oracle. Every function of a sample of units is asked for, and every answer
// is checked. What may be missing is a matter of luck and of effort; what is wrong must be nothing.
// QPATCH_SCALE=full takes all units.

#include <gtest/gtest.h>

#include <set>

#include <fmt/format.h>

#include "base/fd.h"
#include "base/subprocess.h"
#include "elf/file.h"
#include "match/bind.h"
#include "match/symbol_map.h"
#include "objdiff/split.h"
#include "open_vswitch.h"

namespace qp::scale {
namespace {

namespace fs = std::filesystem;

struct Subject {
  match::SymbolMap oracle;
  elf::File file;  // stripped
  elf::FileReader reader;
  match::SymbolMap symbols;

  explicit Subject(const fs::path& program)
      : oracle(match::SymbolMap::from_file(elf::File::open(program))),
        file(strip(program)),
        reader(file),
        symbols(match::SymbolMap::from_file(file)) {}
  static elf::File strip(const fs::path& program) {
    TempDir directory("qpatch-scale");
    const fs::path out = directory.path() / program.filename();
    const RunResult result = run({"strip", "-o", out, program});
    if (result.exit_code != 0) {
      throw std::runtime_error(result.err);
    }
    return elf::File::open(out);
  }
  match::Target target() const { return {reader, symbols, file.tls_block_end()}; }
  // Where it may be; several files can have one name.
  std::set<LinkAddr> places(const elf::AtomSymbol& symbol) const {
    std::set<LinkAddr> all;
    for (const match::MapEntry* entry : oracle.named(symbol.name)) {
      if (symbol.bind != elf::SymbolBind::Local ||
          fs::path(entry->file).filename() == fs::path(symbol.file).filename()) {
        all.insert(entry->address);
      }
    }
    return all;
  }
};

struct Tally {
  size_t located = 0, ambiguous = 0, refused = 0, wrong = 0;
  size_t all() const { return located + ambiguous + refused + wrong; }
};

void ask_for_all(const elf::AtomGraph& graph, const Subject& subject, Tally& tally) {
  std::vector<elf::AtomId> functions;
  for (elf::AtomId id = 0; id < graph.atoms.size(); ++id) {
    if (graph.atoms[id].kind == elf::AtomKind::Function && !graph.atoms[id].parent &&
        !subject.places(graph.symbol_of(id)).empty()) {
      functions.push_back(id);
    }
  }
  Report report;
  const match::Matched matched = match::match(graph, functions, {}, subject.target(), report);
  for (const match::ReplacedUnit& unit : matched.replaced) {
    if (!unit.ranges.empty()) {
      const bool right = subject.places(graph.symbol_of(unit.function)).count(unit.entry) != 0;
      ++(right ? tally.located : tally.wrong);
      EXPECT_TRUE(right) << graph.source << " " << graph.name_of(unit.function) << " at "
                         << unit.entry.value;
    }
  }
  for (const Refusal& refusal : report.refusals()) {
    const bool open = refusal.id == "symbol-ambiguous" || refusal.id == "unconfirmed";
    ++(open ? tally.ambiguous : tally.refused);
    if (full()) {
      fmt::print("{} {} {}: {}\n", graph.source, refusal.id, refusal.where, refusal.detail);
    }
  }
  for (elf::AtomSymbolId id = 0; id < graph.symbols.size(); ++id) {
    const elf::AtomSymbol& symbol = graph.symbols[id];
    if (matched.bindings[id].kind == elf::BindingKind::Address && !symbol.anonymous) {
      const std::set<LinkAddr> places = subject.places(symbol);
      const bool right = places.empty() || places.count(matched.bindings[id].address) != 0;
      tally.wrong += right ? 0 : 1;
      EXPECT_TRUE(right) << graph.source << " " << symbol.name;
    }
  }
}

// Claim: most functions of a stripped program are found by their code, and none at a wrong place.
TEST(StrippedOpenVswitch, NothingIsWrong) {
  const Subject subject(tree() / "vswitchd/ovs-vswitchd");
  ASSERT_FALSE(subject.symbols.has_symtab());
  Tally tally;
  for (const build::Replay* unit : sample_of_units(24)) {
    Report report;
    const elf::AtomGraph graph =
        objdiff::split(elf::File::parse(compile(*unit, ""), unit->source), report);
    ASSERT_TRUE(report.clean()) << unit->source;
    ask_for_all(graph, subject, tally);
  }
  fmt::print("located {}, ambiguous {}, refused {}, wrong {} of {} functions\n", tally.located,
             tally.ambiguous, tally.refused, tally.wrong, tally.all());
  EXPECT_EQ(tally.wrong, 0u);
  EXPECT_GT(tally.located, tally.all() * 9 / 10);
}

}  // namespace
}  // namespace qp::scale
