// Variables of a patch that are in the process already.

#include "apply/adopt.h"

#include <gtest/gtest.h>

namespace qp::apply {
namespace {

// A patch with variables of these names, of 4 bytes each and of one file.
format::Patch patch_with(std::initializer_list<const char*> names) {
  format::Patch patch;
  for (const char* name : names) {
    elf::Atom atom;
    atom.kind = elf::AtomKind::Variable;
    atom.storage = elf::Storage::Data;
    atom.size = 4;
    atom.bytes = Bytes(4);
    const auto number = static_cast<elf::AtomId>(patch.fresh.atoms.size());
    atom.symbol = number;
    elf::AtomSymbol symbol;
    symbol.name = name;
    symbol.file = "f.c";
    symbol.bind = elf::SymbolBind::Local;
    symbol.atom = number;
    patch.fresh.atoms.push_back(atom);
    patch.fresh.symbols.push_back(symbol);
    patch.fresh_bindings.emplace_back();
    patch.variables.push_back({.symbol = number, .name = name, .type = "int"});
  }
  return patch;
}

RegistryVariable there(const char* name, uint64_t at) {
  return {name, "f.c", "int", LiveAddr(at), 4, std::nullopt};
}

const LoadBias kBias{0x1000};

// Claim: a variable that is there is bound to its place in the target's addresses, and the others, and what
// refers to either, keep their numbers straight.
TEST(Adopt, BindsWhatIsThere) {
  Report report;
  const Adopted adopted =
      adopt(patch_with({"old", "fresh"}), {there("old", 0x5000)}, kBias, report);
  EXPECT_TRUE(report.clean());
  ASSERT_EQ(adopted.variables.size(), 1U);
  EXPECT_EQ(adopted.variables.front().at, LiveAddr(0x5000));
  const format::Patch& patch = adopted.patch;
  ASSERT_EQ(patch.variables.size(), 1U);
  EXPECT_EQ(patch.variables.front().name, "fresh");
  EXPECT_EQ(patch.fresh.atoms.size(), 1U);
  EXPECT_FALSE(patch.fresh.symbols[0].atom);
  EXPECT_EQ(patch.fresh_bindings[0].kind, elf::BindingKind::Address);
  EXPECT_EQ(patch.fresh_bindings[0].address, LinkAddr(0x4000));
  EXPECT_EQ(patch.fresh.symbols[1].atom, elf::AtomId{0});
}

void expect_changed(const format::Patch& patch, const std::vector<RegistryVariable>& before) {
  Report report;
  adopt(patch, before, kBias, report);
  ASSERT_EQ(report.refusals().size(), 1U);
  EXPECT_EQ(report.refusals().front().id, "variable-changed");
  EXPECT_EQ(report.refusals().front().where, "v");
}

// Claim: another size or type, or another kind of storage, is another variable.
TEST(Adopt, RefusesAnotherVariable) {
  RegistryVariable larger = there("v", 0x5000), other = larger, local = larger;
  larger.size = 8;
  other.type = "float";
  local.block_offset = 0;
  expect_changed(patch_with({"v"}), {larger});
  expect_changed(patch_with({"v"}), {other});
  expect_changed(patch_with({"v"}), {local});
}

// Claim: where either side has several of a name, nothing is guessed.
TEST(Adopt, RefusesSeveralInTheProcess) {
  expect_changed(patch_with({"v"}), {there("v", 0x5000), there("v", 0x5010)});
}

TEST(Adopt, RefusesSeveralInThePatch) {
  Report report;
  adopt(patch_with({"v", "v"}), {there("v", 0x5000)}, kBias, report);
  ASSERT_FALSE(report.clean());
  EXPECT_EQ(report.refusals().front().id, "variable-changed");
}

}  // namespace
}  // namespace qp::apply
