// A string's synthetic name tells a reader nothing; its text does. Texts come from files, so what a
// terminal could take for a command is escaped.

#include "cli/atom_name.h"

#include <fmt/format.h>

namespace qp::cli {
namespace {

constexpr size_t kLongest = 60;

}  // namespace

std::string display_name(const elf::AtomGraph& graph, elf::AtomId id) {
  const elf::Atom& atom = graph.atoms[id];
  if (atom.kind != elf::AtomKind::String || !graph.symbol_of(id).anonymous) {
    return graph.name_of(id);
  }
  std::string out = "\"";
  for (char c : as_text(atom.bytes).substr(0, kLongest)) {
    auto byte = static_cast<unsigned char>(c);
    if (c == '\0') {
      break;
    }
    out += c == '\n'                     ? "\\n"
           : byte < 0x20 || byte == 0x7f ? fmt::format("\\x{:02x}", byte)
                                         : std::string(1, c);
  }
  return out + (atom.bytes.size() > kLongest ? "…\"" : "\"");
}

}  // namespace qp::cli
