// What makes a patch consistent.
//
// A patch file comes from elsewhere and ends in machine code of a running program. Signatures say
// whom it is from; this says that it holds together, so that link, match and apply can index, read
// and place without asking again:
// - every index names something; the fields of relocations lie in their atoms; unwind entries too;
// - numbers that stand for an enumeration are in it; alignments are powers of two up to a page;
// - what the new code refers to is in the patch or has a binding;
// - a replaced function is a function on both sides, and its entry lies in its first range;
// - a hook is a function of the patch;
// - no two parts are for one target, and all say the same about what the patch is;
// - texts that will be printed hold no control characters: a symbol name must not be able to drive
//   the terminal of an administrator.
// The writer runs the same checks and calls a failure a bug, so that no file can be written that
// can't be read.

#include "format/check.h"

#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "base/error.h"

namespace qp::format {

using elf::Atom;
using elf::AtomGraph;
using elf::AtomKind;
using elf::AtomSymbol;
using elf::Binding;
using elf::BindingKind;
using elf::Ref;
using elf::SymbolType;

namespace {

constexpr uint64_t kMostBytes = uint64_t{1} << 30;  // an image lies within 2 GiB of its target
constexpr uint64_t kAddressLimit = uint64_t{1} << 57;
constexpr int kDeepestParent = 16;
constexpr size_t kMostParts = 1024;

bool is_control(std::string_view text, size_t i) {
  auto c = static_cast<unsigned char>(text[i]);
  // U+0080 to U+009F, the second set of control characters, in UTF-8.
  bool c1 = c == 0xc2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) >= 0x80 &&
            static_cast<unsigned char>(text[i + 1]) < 0xa0;
  return c < 0x20 || c == 0x7f || c1;
}

class Checker {
 public:
  Checker(const AtomGraph& graph, const std::string& name) : graph_(graph), name_(name) {}

  void check() {
    line(graph_.source, "the source's name");
    for (const AtomSymbol& s : graph_.symbols) {
      check_symbol(s);
    }
    for (size_t i = 0; i < graph_.atoms.size(); ++i) {
      check_atom(i);
    }
  }

  // One line, to be printed.
  void line(std::string_view text, std::string_view what) const { printable(text, what, false); }
  void printable(std::string_view text, std::string_view what, bool newlines) const {
    for (size_t i = 0; i < text.size(); ++i) {
      if (is_control(text, i) && !(newlines && (text[i] == '\n' || text[i] == '\t'))) {
        throw fail(fmt::format("{} holds control characters", what));
      }
    }
  }
  Error fail(std::string_view what) const { return bad_file(name_, what); }

 private:
  void check_symbol(const AtomSymbol& s) const {
    line(s.name, "a symbol's name");
    line(s.version, "a symbol's version");
    line(s.file, "a file name");
    if (s.type == SymbolType::File || s.type == SymbolType::Section) {
      throw fail(fmt::format("symbol '{}' stands for a file or a section", s.name));
    }
    if (!s.atom) {
      return;
    }
    if (*s.atom >= graph_.atoms.size()) {
      throw fail(fmt::format("symbol '{}' is in atom {}, which does not exist", s.name, *s.atom));
    }
    uint64_t size = graph_.atoms[*s.atom].size;
    if (s.offset > size || s.size > size - s.offset) {
      throw fail(fmt::format("symbol '{}' is outside of its atom", s.name));
    }
  }

  void check_ref(const Ref& r, std::string_view where) const {
    if (elf::find_traits(r.type) == nullptr) {
      throw fail(fmt::format("{} has a relocation of the unknown type {}", where,
                             static_cast<uint32_t>(r.type)));
    }
    if (r.symbol >= graph_.symbols.size()) {
      throw fail(fmt::format("{} refers to symbol {}, which does not exist", where, r.symbol));
    }
  }

  void check_atom(size_t id) const {
    const Atom& a = graph_.atoms[id];
    auto where = fmt::format("atom {} ({})", id, a.section);
    line(a.section, "a section's name");
    if (a.section.empty() || a.section.starts_with(".qpatch.")) {
      throw fail(fmt::format("{} has an impossible section name", where));
    }
    bool power = a.alignment != 0 && (a.alignment & (a.alignment - 1)) == 0;
    if (!power || a.alignment > kPageSize || a.size > kMostBytes ||
        a.bytes.size() != (elf::has_bytes(a.storage) ? a.size : 0)) {
      throw fail(fmt::format("{} has an impossible size or alignment", where));
    }
    if (a.kind == AtomKind::Function && a.storage != elf::Storage::Text) {
      throw fail(fmt::format("{} is a function, but not in text", where));
    }
    if (a.symbol >= graph_.symbols.size() || graph_.symbols[a.symbol].atom != id ||
        graph_.symbols[a.symbol].offset != 0) {
      throw fail(fmt::format("{} has no symbol of its own", where));
    }
    check_parents(a, where);
    uint64_t last = 0;
    for (const Ref& r : a.refs) {
      check_ref(r, where);
      uint64_t width = elf::find_traits(r.type)->width;
      if (r.at < last || r.at > a.bytes.size() || width > a.bytes.size() - r.at) {
        throw fail(
            fmt::format("{} has a relocation at {:#x}, outside or out of order", where, r.at));
      }
      last = r.at;
    }
    for (const elf::FrameEntry& f : a.frames) {
      if (f.offset > a.size || f.size > a.size - f.offset || f.cie.empty()) {
        throw fail(fmt::format("{} has an unwind entry for a range outside of it", where));
      }
      for (const auto& ref : {f.personality, f.lsda}) {
        if (ref) {
          check_ref(*ref, where);
        }
      }
    }
  }

  void check_parents(const Atom& a, std::string_view where) const {
    int depth = 0;
    for (auto parent = a.parent; parent; parent = graph_.atoms[*parent].parent) {
      if (*parent >= graph_.atoms.size() || graph_.atoms[*parent].kind != AtomKind::Function ||
          ++depth > kDeepestParent) {
        throw fail(fmt::format("{} is a piece of what is not a function", where));
      }
    }
  }

  const AtomGraph& graph_;
  const std::string& name_;
};

class PatchChecker {
 public:
  PatchChecker(const Patch& patch, const std::string& name)
      : patch_(patch), fresh_(patch.fresh, name), old_(patch.old, name) {}

  void check() {
    fresh_.check();
    old_.check();
    check_meta();
    check_bindings();
    for (size_t i = 0; i < patch_.replaced.size(); ++i) {
      check_replaced(patch_.replaced[i]);
      if (i > 0 && patch_.replaced[i].entry <= patch_.replaced[i - 1].entry) {
        throw fail("its replaced functions are not in the order of their entries");
      }
    }
    for (const Hook& h : patch_.hooks) {
      fresh_.line(h.name, "a hook's name");
      fresh_.line(h.file, "a file name");
      if (h.function >= patch_.fresh.atoms.size() ||
          patch_.fresh.atoms[h.function].kind != AtomKind::Function ||
          patch_.fresh.atoms[h.function].parent) {
        throw fail(fmt::format("hook '{}' is not a function", h.name));
      }
    }
    std::for_each(patch_.variables.begin(), patch_.variables.end(),
                  [this](const Variable& v) { check_variable(v); });
  }

 private:
  Error fail(std::string_view what) const { return fresh_.fail(what); }

  void check_meta() const {
    const Meta& m = patch_.meta;
    const std::string& id = m.target_build_id;
    bool digits = std::all_of(id.begin(), id.end(), [](char c) {
      return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
    });
    if (id.empty() || id.size() > 128 || id.size() % 2 != 0 || !digits) {
      throw fail("the build-id of its target is not one");
    }
    fresh_.line(m.target_name, "the target's name");
    fresh_.line(m.target_soname, "the target's soname");
    fresh_.printable(m.description, "the description", true);
    fresh_.line(m.toolchain, "the toolchain");
    for (const auto* list : {&m.cves, &m.sources, &m.waivers, &m.supersedes}) {
      for (const std::string& text : *list) {
        fresh_.line(text, "a text of the metadata");
      }
    }
  }

  void check_binding(const Binding& b, const AtomSymbol& s) const {
    fresh_.line(b.version, "a version");
    bool limits = b.address.value <= kAddressLimit && b.stub.value <= kAddressLimit &&
                  b.got_slot.value <= kAddressLimit;
    if (!limits || b.kind > BindingKind::TlsSlot || b.evidence > elf::Evidence::Proof) {
      throw fail(fmt::format("the binding of symbol '{}' is impossible", s.name));
    }
  }

  void check_bindings() const {
    if (patch_.fresh_bindings.size() != patch_.fresh.symbols.size() ||
        patch_.old_bindings.size() != patch_.old.symbols.size()) {
      throw fail("it does not have one binding per symbol");
    }
    for (size_t i = 0; i < patch_.old.symbols.size(); ++i) {
      check_binding(patch_.old_bindings[i], patch_.old.symbols[i]);
    }
    for (size_t i = 0; i < patch_.fresh.symbols.size(); ++i) {
      const AtomSymbol& s = patch_.fresh.symbols[i];
      check_binding(patch_.fresh_bindings[i], s);
      if (s.atom && patch_.fresh_bindings[i].kind != BindingKind::Unbound) {
        throw fail(fmt::format("symbol '{}' is both new and bound to the target", s.name));
      }
    }
    auto demand = [&](const Ref& r) {
      if (!patch_.fresh.symbols[r.symbol].atom &&
          patch_.fresh_bindings[r.symbol].kind == BindingKind::Unbound) {
        throw fail(fmt::format("symbol '{}' has no binding", patch_.fresh.symbols[r.symbol].name));
      }
    };
    for (const Atom& a : patch_.fresh.atoms) {
      std::for_each(a.refs.begin(), a.refs.end(), demand);
      for (const elf::FrameEntry& f : a.frames) {
        for (const auto& ref : {f.personality, f.lsda}) {
          if (ref) {
            demand(*ref);
          }
        }
      }
    }
  }

  void check_variable(const Variable& v) const {
    fresh_.line(v.name, "a variable's name");
    fresh_.line(v.type, "a variable's type");
    const auto& symbols = patch_.fresh.symbols;
    const auto atom = v.symbol < symbols.size() ? symbols[v.symbol].atom : std::nullopt;
    if (!atom || !elf::is_writable(patch_.fresh.atoms[*atom].storage) ||
        patch_.fresh.atoms[*atom].symbol != v.symbol) {
      throw fail(fmt::format("'{}' is not a variable of it", v.name));
    }
  }

  void check_replaced(const Replaced& r) const {
    fresh_.line(r.name, "a function's name");
    fresh_.line(r.file, "a file name");
    fresh_.printable(r.why, "the first difference of a function", true);
    auto is_function = [](const AtomGraph& graph, elf::AtomId id) {
      return id < graph.atoms.size() && graph.atoms[id].kind == AtomKind::Function;
    };
    if (!is_function(patch_.old, r.old_function) || !is_function(patch_.fresh, r.new_function) ||
        patch_.old.atoms[r.old_function].parent) {
      throw fail(fmt::format("replaced function '{}' is not a function", r.name));
    }
    for (const LinkRange& range : r.ranges) {
      if (range.start >= range.end || range.end.value > kAddressLimit ||
          range.size() > kMostBytes) {
        throw fail(fmt::format("replaced function '{}' has an impossible range", r.name));
      }
    }
    if (r.ranges.empty() || !r.ranges.front().contains(r.entry)) {
      throw fail(fmt::format("the entry of replaced function '{}' is outside of it", r.name));
    }
  }

  const Patch& patch_;
  Checker fresh_, old_;
};

}  // namespace

void check_graph(const AtomGraph& graph, const std::string& name) {
  Checker(graph, name).check();
}

void check_patch(const Patch& patch, const std::string& name) {
  PatchChecker(patch, name).check();
}

void check_parts(const PatchFile& file, const std::string& name) {
  if (file.parts.empty() || file.parts.size() > kMostParts) {
    throw bad_file(name, fmt::format("it has {} parts", file.parts.size()));
  }
  std::set<std::string> targets;
  const Meta& first = file.parts.front().meta;
  for (const Patch& part : file.parts) {
    const Meta& m = part.meta;
    if (!targets.insert(m.target_build_id).second) {
      throw bad_file(name, fmt::format("it has two parts for build-id {}", m.target_build_id));
    }
    if (m.description != first.description || m.cves != first.cves ||
        m.supersedes != first.supersedes) {
      throw bad_file(name, fmt::format("its parts for {} and {} are of different patches",
                                       first.target_name, m.target_name));
    }
  }
}

}  // namespace qp::format
