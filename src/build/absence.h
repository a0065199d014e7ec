// Which units a target shows not to hold.
#pragma once

#include <map>
#include <set>
#include <string>

#include "build/target.h"
#include "elf/atom.h"
#include "match/bind.h"

namespace qp::build {

// Where the unit's own functions are in the target, as far as the match knows.
std::set<LinkAddr> places_of(const elf::AtomGraph& original, const match::Matched& matched);

class Absence {
 public:
  // `target` must outlive this.
  explicit Absence(const TargetFile& target) : target_(target) {}

  // A unit whose code is proven in the target. One that is at the places of a unit added before (a
  // second object of the same source) is the same unit.
  void add_present(const elf::AtomGraph& original, const match::Matched& matched);
  // The target has a global that the unit defines, and that no present unit defines.
  bool has_own_global(const elf::AtomGraph& original) const;
  // Of a unit that was matched: the target shows that it is not there.
  bool shows_absence(const elf::AtomGraph& original, const match::Matched& matched) const;

 private:
  const TargetFile& target_;
  std::set<LinkAddr> taken_;             // functions of present units
  std::set<std::string> globals_;        // that they define
  std::map<std::string, size_t> known_;  // base name of a source → units of it that are present
};

}  // namespace qp::build
