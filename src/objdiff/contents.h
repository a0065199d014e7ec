// What a reference means and what data hold, as values that can be compared across both objects.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "objdiff/sides.h"

namespace qp::objdiff {

// The meaning of a reference. Equal tokens mean the same thing on either side.
struct Token {
  enum class Kind : uint8_t { Outside, Code, Named, Private } kind = Kind::Outside;
  elf::RelocType type = elf::RelocType::None;  // one for each group of interchangeable types
  bool boundary = true;    // Code: offset is an instruction's ordinal, not bytes
  uint32_t identity = 0;   // name, correlated atom or content
  uint32_t neighbour = 0;  // Private: content of what a crossing pointer could mean; 0: none
  int64_t offset = 0;
  bool operator==(const Token&) const = default;
};

class Contents {
 public:
  Contents(const Sides& sides, const Correlation& correlation);

  // `crossing`: the place could hold a pointer past an end or before a start of its target, so the
  // target's neighbour in a run counts too. False for loads from exactly there.
  Token token(const Side& side, elf::AtomId container, const elf::Ref& ref, bool crossing = true);
  // References of unwind entries lead straight to their target.
  Token frame_token(const Side& side, const elf::Ref& ref);
  // Number of the content of a private atom; the same on both sides if and only if equal.
  uint32_t content(const Side& side, elf::AtomId id);
  // Content of any data atom as text, references resolved.
  std::string data_key(const Side& side, elf::AtomId id);

  // Named read-only data (original id) whose successor differs: directly, or through what it refers
  // to.
  bool changed(elf::AtomId original) const { return changed_[original]; }

 private:
  struct State {
    std::vector<uint32_t> ids;    // 0: not known yet
    std::vector<uint32_t> depth;  // position on the stack while in progress; 0: not
  };
  State& state(const Side& side) { return &side == &sides_.original ? original_ : patched_; }
  bool is_original(const Side& side) const { return &side == &sides_.original; }
  uint32_t identity(const Side& side, elf::AtomId id) const;
  uint32_t intern(std::string text);
  Token resolve(const Side& side, const elf::Ref& ref, int64_t offset, bool crossing);
  void find_changed();

  const Sides& sides_;
  const Correlation& correlation_;
  State original_, patched_;
  uint32_t stack_ = 0;
  std::vector<bool> changed_;
  std::unordered_map<std::string, uint32_t> interned_;
};

// PC32 and PLT32 to one function are the same reference; so are the GOTPCREL forms.
elf::RelocType reference_group(elf::RelocType type);

}  // namespace qp::objdiff
