// Words for what the diff found.
//
// "Function f changed" is worth little in review. What convinces a reader is the first instruction
// that differs, old and new, with the names of what it refers to instead of zero fields: `call g →
// call h`, or the two strings. Numbers in the text of an instruction that a relocation will fill
// are replaced by its target; private data is shown by content, since its name means nothing.

#include "objdiff/explain.h"

#include <cctype>

#include <fmt/format.h>

#include "insn/instruction.h"

namespace qp::objdiff {
namespace {

using elf::AtomId;

std::string quoted(ByteView bytes) {
  std::string out = "\"";
  for (size_t n = 0; n < bytes.size() && n < 40; ++n) {
    auto c = static_cast<unsigned char>(bytes[n]);
    if (c == 0 && n + 1 == bytes.size()) {
      break;
    }
    if (c == '\n') {
      out += "\\n";
    } else if (std::isprint(c) != 0) {
      out += static_cast<char>(c);
    } else {
      out += fmt::format("\\x{:02x}", c);
    }
  }
  return out + (bytes.size() > 40 ? "…\"" : "\"");
}

}  // namespace

std::string describe_atom(const Side& side, AtomId id) {
  const elf::Atom& a = side.atom(id);
  const elf::AtomSymbol& s = side.graph.symbols[a.symbol];
  if (!s.anonymous) {
    return s.name;
  }
  switch (a.kind) {
    case elf::AtomKind::String:
      return quoted(a.bytes);
    case elf::AtomKind::Constant:
      return fmt::format("constant {}", hex(a.bytes));
    case elf::AtomKind::JumpTable:
      return fmt::format("jump table of {} bytes", a.size);
    default:
      return fmt::format("{} bytes of {} ({})", a.size, a.section, hex(a.bytes, 16));
  }
}

std::string describe_target(const Side& side, AtomId container, const elf::Ref& ref) {
  auto to = side.target(ref);
  std::string name = to ? describe_atom(side, *to) : side.graph.symbols[ref.symbol].name;
  const elf::RelocTraits* traits = elf::find_traits(ref.type);
  if (traits != nullptr && (traits->via_got || traits->tls)) {
    return fmt::format("{} ({})", name, traits->name.substr(9));
  }
  int64_t offset = target_offset(ref, side.atom(container), side.code_map(container));
  return offset == 0 ? name : fmt::format("{}{:+#x}", name, offset);
}

std::string describe_instruction(const Side& side, AtomId id, uint64_t at) {
  const elf::Atom& a = side.atom(id);
  if (at >= a.bytes.size()) {
    return "end";
  }
  auto i = insn::decode(a.bytes, at);
  std::string text = insn::format(a.bytes, at, at);
  if (!i) {
    return text;
  }
  for (const elf::Ref& ref : a.refs) {
    if (ref.at < at || ref.at >= at + i->length) {
      continue;
    }
    std::string target = describe_target(side, id, ref);
    // A relocated branch shows a meaningless distance: put the name in its place.
    size_t space = text.rfind(' ');
    if (i->branch.size != 0 && space != std::string::npos) {
      text.replace(space + 1, std::string::npos, target);
    } else {
      text += fmt::format(" [{}]", target);
    }
  }
  return text;
}

}  // namespace qp::objdiff
