// Objects that differ in one bit or in one relocation, and whom a diff may blame for it.
#pragma once

#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "elf/file.h"

namespace qp::pairs {

struct Mutant {
  Bytes object;
  std::string what;             // for messages: ".text.f+0x12 bit 3"
  std::set<std::string> units;  // functions that hold it or can read it: only these may change
  std::set<std::string> names;  // what a refusal may name instead: these, variables, places
  bool anonymous = false;       // … or data without a name
};

class Mutator {
 public:
  Mutator(Bytes object, uint64_t seed);
  // Nullopt: this one would mean the same.
  std::optional<Mutant> next();

 private:
  uint64_t pick(uint64_t n) { return random_() % n; }
  std::optional<Mutant> content_mutant();
  std::optional<Mutant> relocation_mutant();
  bool same_instruction(const elf::Section& section, uint64_t at, const Bytes& mutated) const;
  bool same_code(const elf::Section& of, const elf::Relocation& r, int64_t addend) const;
  bool is_relocated(const elf::Section& section, uint64_t at) const;
  bool is_padding(const elf::Section& section, uint64_t at) const;
  bool is_frame_padding(uint64_t at) const;
  void blame(Mutant& mutant, const elf::Section& section, uint64_t at) const;
  void blame_frame(Mutant& mutant, const elf::Section& section, uint64_t at) const;
  void blame_data(Mutant& mutant, const elf::Section& section) const;
  std::set<std::string> symbols_at(uint32_t section, uint64_t at) const;

  Bytes object_;
  elf::File file_;
  std::mt19937_64 random_;
  std::vector<const elf::Section*> content_, relocations_;
};

}  // namespace qp::pairs
