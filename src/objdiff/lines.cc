// A graph has no sections any more, so an atom is found in its object again by its symbol.

#include "objdiff/lines.h"

#include <map>

#include "elf/line_table.h"

namespace qp::objdiff {
namespace {

class Lines {
 public:
  explicit Lines(const elf::File& object) : table_(object) {
    for (const elf::Symbol& s : object.symbols()) {
      if (s.defined() && s.section < object.sections().size()) {
        const elf::Section& section = object.sections()[s.section];
        if (section.has(elf::kExec)) {
          places_.emplace(std::pair(section.name, s.name), std::pair(s.section, s.value));
        }
      }
    }
  }
  std::string at(const elf::AtomGraph& graph, elf::AtomId atom, uint64_t offset) const {
    auto place = places_.find({graph.atoms[atom].section, graph.name_of(atom)});
    if (place == places_.end()) {
      return "";
    }
    auto [section, start] = place->second;
    return table_.find(section, start + offset).value_or("");
  }

 private:
  elf::LineTable table_;
  std::map<std::pair<std::string, std::string>, std::pair<uint32_t, uint64_t>> places_;
};

}  // namespace

void add_lines(Diff& diff, const elf::File& original, const elf::File& patched) {
  Lines before(original), after(patched);
  for (Unit& unit : diff.units) {
    if (unit.fate == Fate::Changed && unit.first_difference) {
      Difference& d = *unit.first_difference;
      d.original_line = before.at(diff.original, d.original_atom, d.original_at);
      d.patched_line = after.at(diff.patched, d.patched_atom, d.patched_at);
    }
  }
}

}  // namespace qp::objdiff
