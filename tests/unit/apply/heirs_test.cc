// Functions of a patch that the program may keep, and who takes their place.

#include "apply/heirs.h"

#include <gtest/gtest.h>

#include "link/image.h"

namespace qp::apply {
namespace {

elf::AtomSymbolId add(format::Patch& patch, const char* name, elf::AtomKind kind,
                      const char* file = "f.c") {
  elf::Atom atom;
  atom.kind = kind;
  atom.storage = kind == elf::AtomKind::Function ? elf::Storage::Text : elf::Storage::Data;
  atom.size = 16;
  atom.bytes = Bytes(16, std::byte{0x90});
  atom.symbol = static_cast<elf::AtomSymbolId>(patch.fresh.symbols.size());
  elf::AtomSymbol symbol;
  symbol.name = name;
  symbol.file = file;
  symbol.bind = elf::SymbolBind::Local;
  symbol.atom = static_cast<elf::AtomId>(patch.fresh.atoms.size());
  patch.fresh.atoms.push_back(atom);
  patch.fresh.symbols.push_back(symbol);
  return atom.symbol;
}

// A table that points to the symbol.
void keep(format::Patch& patch, elf::AtomSymbolId symbol) {
  const elf::AtomSymbolId table = add(patch, "table", elf::AtomKind::Variable);
  patch.fresh.atoms[*patch.fresh.symbols[table].atom].refs.push_back(
      {0, elf::RelocType::R64, symbol, 0});
}

std::vector<std::string> handed_out_names(const format::Patch& patch) {
  std::vector<std::string> out;
  for (const RegistryFunction& f :
       functions_handed_out(patch, [](elf::AtomSymbolId) { return LiveAddr(0x1000); })) {
    EXPECT_EQ(f.code, (LiveRange{LiveAddr(0x1000), LiveAddr(0x1010)}));
    out.push_back(f.name);
  }
  return out;
}

// Claim: what is handed out is recorded, but for what replaces a function of the program (pointers to that
// lead to its old entry), hooks, variables, and the runtime.
TEST(Heirs, FunctionsHandedOut) {
  format::Patch patch;
  add(patch, "called", elf::AtomKind::Function);
  keep(patch, add(patch, "kept", elf::AtomKind::Function));
  keep(patch, add(patch, "variable", elf::AtomKind::Variable));
  keep(patch, add(patch, "end_of_thread", elf::AtomKind::Function, link::kRuntimeFile));
  const auto replaced = add(patch, "replaced", elf::AtomKind::Function);
  keep(patch, replaced);
  patch.replaced.push_back({.name = "replaced"});
  patch.replaced.back().new_function = *patch.fresh.symbols[replaced].atom;
  const auto hook = add(patch, "hook", elf::AtomKind::Function);
  keep(patch, hook);
  patch.hooks.emplace_back();
  patch.hooks.back().function = *patch.fresh.symbols[hook].atom;
  EXPECT_EQ(handed_out_names(patch), std::vector<std::string>{"kept"});
}

// Claim: an heir has the name and the file; who has none is named in a warning.
TEST(Heirs, AreFoundByNameAndFile) {
  format::Patch patch;
  add(patch, "f", elf::AtomKind::Function, "other.c");
  const auto heir = add(patch, "f", elf::AtomKind::Function);
  add(patch, "v", elf::AtomKind::Variable);
  Report report;
  const std::vector<Heir> heirs =
      find_heirs(patch, {{"f", "f.c", {}}, {"v", "f.c", {}}, {"gone", "f.c", {}}}, report);
  ASSERT_EQ(heirs.size(), 1U);
  EXPECT_EQ(heirs.front().now, heir);
  ASSERT_EQ(report.warnings().size(), 2U);
  EXPECT_NE(report.warnings().back().find("gone"), std::string::npos);
}

// Claim: of several of one name none is guessed.
TEST(Heirs, SeveralAreRefused) {
  format::Patch patch;
  add(patch, "f", elf::AtomKind::Function);
  add(patch, "f", elf::AtomKind::Function);
  Report report;
  EXPECT_TRUE(find_heirs(patch, {{"f", "f.c", {}}}, report).empty());
  ASSERT_EQ(report.refusals().size(), 1U);
  EXPECT_EQ(report.refusals().front().id, "symbol-ambiguous");
}

class Code final : public MemoryReader {
 public:
  explicit Code(Bytes bytes) : bytes_(std::move(bytes)) {}
  size_t read_some(LiveAddr at, ByteSpan out) const override {
    const auto from = at.value - 0x1000;
    const size_t size = std::min<size_t>(out.size(), bytes_.size() - from);
    std::copy_n(bytes_.begin() + static_cast<ptrdiff_t>(from), size, out.begin());
    return size;
  }

 private:
  Bytes bytes_;
};

// Claim: the jump is the first instruction of the function, and nothing behind the function is touched.
TEST(Heirs, LeadOn) {
  Bytes bytes(32, std::byte{0x90});
  const Code code(bytes);
  const LiveRange to{LiveAddr(0x5000), LiveAddr(0x5010)};
  Report report;
  const auto detour =
      lead_on({{"f", "f.c", {LiveAddr(0x1000), LiveAddr(0x1010)}}, 0}, to, code, {}, report);
  ASSERT_TRUE(detour);
  EXPECT_TRUE(detour->of_patch);
  EXPECT_EQ(detour->at, LiveAddr(0x1000));
  EXPECT_EQ(detour->jump, link::encode_jump(LinkAddr(0x1000), LinkAddr(0x5000)));
  EXPECT_EQ(detour->saved, Bytes(5, std::byte{0x90}));
  EXPECT_FALSE(
      lead_on({{"f", "f.c", {LiveAddr(0x1000), LiveAddr(0x1004)}}, 0}, to, code, {}, report));
  EXPECT_EQ(report.refusals().front().id, "function-short");
}

}  // namespace
}  // namespace qp::apply
