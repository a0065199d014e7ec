// Names and types of the variables that a patch adds.
//
// A later patch that supersedes this one has the same variables as a rule, and they keep their values:
// its code goes on using them where they are (apply/adopt.cc). That is right only if both patches mean
// the same variable. A name is not enough: compilers number static locals, and a structure that came
// with the first patch can have other members in the second, at the same size. No comparison of objects
// shows that, since neither type is in the original. So each patch says what type it took its variables
// to be: a hash of the type as text, and of the layouts of all types with a name that can be met in it.

#include "build/variables.h"

#include <algorithm>
#include <cctype>
#include <set>

#include <fmt/format.h>

#include "base/fd.h"
#include "objdiff/names.h"

namespace qp::build {
namespace {

bool is_word(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == ':';
}

bool mentions(std::string_view text, std::string_view name) {
  for (size_t at = text.find(name); at != std::string_view::npos; at = text.find(name, at + 1)) {
    const size_t end = at + name.size();
    if ((at == 0 || !is_word(text[at - 1])) && (end == text.size() || !is_word(text[end]))) {
      return true;
    }
  }
  return false;
}

std::string text_of(const elf::TypeLayout& layout) {
  std::string out =
      fmt::format("{} {}", layout.kind == "class" ? "struct" : layout.kind, layout.size);
  for (const elf::TypeMember& m : layout.members) {
    out += fmt::format("; {} {}@{}:{}", m.type, m.name, m.bit_offset, m.bit_size);
  }
  for (const auto& [name, value] : layout.values) {
    out += fmt::format("; {}={}", name, value);
  }
  for (const auto& [name, slot] : layout.virtuals) {
    out += fmt::format("; {}#{}", name, slot);
  }
  return out;
}

// The text, and below it the types that it mentions, and that these mention.
std::string write_out(const std::string& text, const elf::TypeTable& table) {
  std::string out = text;
  std::vector<std::string> work = {text};
  std::set<std::string> seen;
  while (!work.empty()) {
    const std::string here = std::move(work.back());
    work.pop_back();
    for (const auto& [name, layouts] : table.types) {
      if (seen.contains(name) || !mentions(here, name)) {
        continue;
      }
      seen.insert(name);
      std::set<std::string> texts;
      for (const elf::TypeLayout& layout : layouts) {
        texts.insert(text_of(layout));
      }
      for (const std::string& layout : texts) {
        out += fmt::format("\n{}: {}", name, layout);
        work.push_back(layout);
      }
    }
  }
  return out;
}

// "x" of _ZZ1fvE1x (Itanium C++ ABI 5.1.7, local names): the debug information has that.
std::string name_in_function(std::string_view linkage_name) {
  if (!linkage_name.starts_with("_ZZ")) {
    return "";
  }
  for (size_t digits = linkage_name.rfind('E'); digits != std::string_view::npos && digits > 0;
       digits = linkage_name.rfind('E', digits - 1)) {
    size_t at = digits + 1, length = 0;
    while (at < linkage_name.size() &&
           std::isdigit(static_cast<unsigned char>(linkage_name[at])) != 0) {
      length = length * 10 + static_cast<size_t>(linkage_name[at++] - '0');
    }
    if (length != 0 && at + length <= linkage_name.size()) {
      return std::string(linkage_name.substr(at, length));
    }
  }
  return "";
}

void add_texts(const format::Variable& variable, const elf::AtomSymbol& symbol,
               const elf::TypeTable& table, std::set<std::string>& out) {
  const std::string inner = name_in_function(symbol.name);
  for (const auto& [name, types] : table.variables) {
    if (name != variable.name && name != symbol.name &&
        (inner.empty() || !name.ends_with("::" + inner))) {
      continue;
    }
    for (const std::string& type : types) {
      out.insert(write_out(type, table));
    }
  }
}

}  // namespace

std::vector<format::Variable> find_variables(const elf::AtomGraph& fresh) {
  std::vector<format::Variable> out;
  for (const elf::Atom& atom : fresh.atoms) {
    const elf::AtomSymbol& symbol = fresh.symbols[atom.symbol];
    if (elf::is_writable(atom.storage) && !symbol.anonymous) {
      const std::string name(objdiff::stem(symbol.name));
      out.push_back(
          {atom.symbol,
           atom.declared_in.empty() ? name : fmt::format("{}::{}", atom.declared_in, name), ""});
    }
  }
  std::sort(out.begin(), out.end(), [](const format::Variable& a, const format::Variable& b) {
    return a.symbol < b.symbol;
  });
  return out;
}

void check_variables(const format::PatchFile& patch, const format::PatchFile& superseded,
                     Report& report) {
  for (const format::Patch& now : patch.parts) {
    for (const format::Patch& before : superseded.parts) {
      if (now.meta.target_name != before.meta.target_name) {
        continue;
      }
      for (const format::Variable& variable : now.variables) {
        const elf::AtomSymbol& symbol = now.fresh.symbols[variable.symbol];
        for (const format::Variable& old : before.variables) {
          const elf::AtomSymbol& other = before.fresh.symbols[old.symbol];
          const uint64_t size = now.fresh.atoms[*symbol.atom].size,
                         old_size = before.fresh.atoms[*other.atom].size;
          if (variable.name != old.name || symbol.file != other.file ||
              (variable.type == old.type && size == old_size)) {
            continue;
          }
          report.refuse("variable-changed", variable.name,
                        size != old_size
                            ? fmt::format("patch {} has it with {} bytes, this one with {}",
                                          superseded.id(), old_size, size)
                            : fmt::format("patch {} has it with another type", superseded.id()));
        }
      }
    }
  }
}

void add_types(format::Patch& patch, const std::vector<UnitTypes>& units) {
  for (format::Variable& variable : patch.variables) {
    const elf::AtomSymbol& symbol = patch.fresh.symbols[variable.symbol];
    const bool in_one = std::any_of(units.begin(), units.end(), [&](const UnitTypes& unit) {
      return !symbol.file.empty() && unit.source == symbol.file;
    });
    std::set<std::string> texts;
    for (const UnitTypes& unit : units) {
      if (!in_one || unit.source == symbol.file) {
        add_texts(variable, symbol, unit.table, texts);
      }
    }
    if (!texts.empty()) {
      const std::string all = fmt::format("{}", fmt::join(texts, "\n"));
      variable.type = content_hash(as_bytes(all)).substr(0, 16);
    }
  }
}

}  // namespace qp::build
