// What changed between two objects, and what has to go into a patch because of it.
// Laws: nothing is lost, nothing is guessed (DESIGN.md section 3). docs/objdiff.md explains.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/report.h"
#include "elf/atom.h"

namespace qp::objdiff {

enum class Fate : uint8_t { Same, Changed, New, Removed };

struct Difference {
  uint64_t original_at = 0, patched_at = 0;  // offsets of the first differing instruction
  std::string what;                          // "mov $0x1,%eax → mov $0x2,%eax", "calls g, not f"
  elf::AtomId original_atom = 0, patched_atom = 0;  // where: the function or one of its pieces
  std::string original_line, patched_line;          // "f.c:12"; see lines.h; empty: not known
};

// A unit: a function with the pieces that travel with it.
struct Unit {
  std::string name;
  Fate fate = Fate::Same;
  std::optional<elf::AtomId> original, patched;              // the function itself
  std::vector<elf::AtomId> original_pieces, patched_pieces;  // .cold and what jumps into it
  std::optional<Difference> first_difference;                // if Changed
};

// A patched atom that goes into the patch, and why ("changed", "new, called by f", "string of f").
struct Inclusion {
  elf::AtomId patched;
  std::string why;
};

struct Diff {
  elf::AtomGraph original, patched;
  std::vector<std::optional<elf::AtomId>> original_of;  // per patched atom: its predecessor
  std::vector<std::optional<elf::AtomId>> patched_of;   // per original atom: its successor
  std::vector<Unit> units;                              // every function, by patched order; then
                                                        // removed ones
  std::vector<Inclusion> included;                      // by patched id
  // Patched symbols that included atoms refer to and that stay where they are in the target: the
  // original symbol that stands for each. Symbols undefined in both objects map by name.
  struct Bound {
    elf::AtomSymbolId patched;
    std::optional<elf::AtomSymbolId> original;  // nullopt: the original object never mentions it
    std::string why;
  };
  std::vector<Bound> bound;  // by patched id
  // What the patched object's section .qpatch.hooks says and the original's did not, or whose
  // function changed (include/qpatch/hooks.h has the numbers). By line.
  struct Hook {
    std::string name;
    uint8_t when = 0, others = 0;
    uint32_t line = 0;
    elf::AtomId function = 0;  // patched
  };
  std::vector<Hook> hooks;
  bool changed() const {
    for (const Unit& u : units) {
      if (u.fate == Fate::Changed || u.fate == Fate::New) {
        return true;
      }
    }
    return false;
  }
  // New variables that other units can use. With changed() or without, the unit has a part in the
  // patch.
  bool adds_globals() const;
};

// Refuses in `report`; the Diff is complete even then, for explanation.
Diff diff(elf::AtomGraph original, elf::AtomGraph patched, Report& report);

// Law 1 as code; diff() runs it last. Appends "diff-unexplained" for every original or patched atom
// whose bytes or refs differ from its counterpart and that no unit of the patch accounts for.
void check_explained(const Diff& diff, Report& report);

}  // namespace qp::objdiff
