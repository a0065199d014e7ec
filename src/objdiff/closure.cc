// What goes into the patch.
//
// It starts with what changed or is new, and follows references until nothing is missing. At each
// reference there is one question: does the thing exist in the process with an identity? Then the
// reference stays a reference to it (bound). That holds for functions too, also for changed ones:
// new code that takes the address of a replaced function must get the old entry, where the detour
// is, or function pointers would stop comparing equal. Only what leads into the inside of a unit (a
// jump between a function and its .cold piece, a jump table) leads to new code directly.
//
// What has only content (strings, constants, tables) comes along. Anonymous data comes with the
// whole run it lies in, since a pointer may cross from one into the next.
//
// Everything the split could only represent but nobody can patch yet is refused here, and only
// here: an object may contain COMDAT functions, thread-local variables or unknown relocations as
// long as the patch does not need them.

#include "objdiff/closure.h"

#include <cctype>
#include <map>

#include <fmt/format.h>

#include "objdiff/explain.h"

namespace qp::objdiff {
namespace {

using elf::AtomId;
using elf::RelocType;

class Closure {
 public:
  Closure(const Sides& sides, const Correlation& correlation, Contents& contents, Diff& diff,
          Report& report)
      : sides_(sides),
        side_(sides.patched),
        correlation_(correlation),
        contents_(contents),
        diff_(diff),
        report_(report),
        why_(sides.patched.graph.atoms.size()) {}

  void run();

 private:
  void include(AtomId id, std::string why);
  void include_private(AtomId id, const std::string& why);
  void follow(AtomId from, const elf::Ref& ref);
  void bind(elf::AtomSymbolId symbol, std::string why);
  std::optional<elf::AtomSymbolId> original_symbol(elf::AtomSymbolId patched) const;
  void check_included(AtomId id);
  void check_reference(AtomId from, const elf::Ref& ref);
  bool lives_in_process(AtomId id) const {
    auto original = correlation_.original_of[id];
    return original && !contents_.changed(*original);
  }

  const Sides& sides_;
  const Side& side_;
  const Correlation& correlation_;
  Contents& contents_;
  Diff& diff_;
  Report& report_;
  std::vector<std::string> why_;  // of included atoms
  std::vector<AtomId> open_;
  std::map<elf::AtomSymbolId, std::string> bound_;
  std::map<std::string, elf::AtomSymbolId> original_names_;
};

void Closure::include(AtomId id, std::string why) {
  if (why_[id].empty()) {
    why_[id] = std::move(why);
    open_.push_back(id);
  }
}

void Closure::include_private(AtomId id, const std::string& why) {
  include(id, why);
  std::string beside = "beside " + describe_atom(side_, id);
  for (auto at = side_.previous_in_run(id); at && why_[*at].empty();
       at = side_.previous_in_run(*at)) {
    include(*at, beside);
  }
  for (auto at = side_.next_in_run(id); at && why_[*at].empty(); at = side_.next_in_run(*at)) {
    include(*at, beside);
  }
}

std::optional<elf::AtomSymbolId> Closure::original_symbol(elf::AtomSymbolId patched) const {
  const elf::AtomSymbol& s = side_.graph.symbols[patched];
  if (s.atom) {
    auto original = correlation_.original_of[*s.atom];
    return original ? std::optional(sides_.original.atom(*original).symbol) : std::nullopt;
  }
  auto it = original_names_.find(s.name + "@" + s.version);
  return it == original_names_.end() ? std::nullopt : std::optional(it->second);
}

void Closure::bind(elf::AtomSymbolId symbol, std::string why) {
  bound_.emplace(symbol, std::move(why));
}

void Closure::follow(AtomId from, const elf::Ref& ref) {
  check_reference(from, ref);
  auto to = side_.target(ref);
  if (!to) {
    bind(ref.symbol, "defined elsewhere");
    return;
  }
  const elf::Atom& target = side_.atom(*to);
  std::string name = describe_atom(side_, from);
  if (is_code(target)) {
    AtomId root = side_.root(*to);
    bool same_unit = is_code(side_.atom(from)) && side_.root(from) == root;
    bool table = side_.atom(from).kind == elf::AtomKind::JumpTable || is_lsda(side_.atom(from));
    // A function that calls itself or hands out its address means its entry, like everybody else.
    bool entry = same_unit && *to == root && correlation_.original_of[*to] &&
                 target_offset(ref, side_.atom(from), side_.code_map(from)) == 0;
    if (!entry && (same_unit || (table && !why_[root].empty()))) {
      for (AtomId piece : side_.unit(root)) {
        include(piece, "piece of " + describe_atom(side_, root));
      }
    } else if (correlation_.original_of[*to]) {
      bind(ref.symbol, "function of the program, by its old entry");
      if (side_.graph.symbols[target.symbol].type == elf::SymbolType::GnuIfunc) {
        report_.refuse("ifunc-unsupported", describe_atom(side_, *to),
                       fmt::format("{} refers to it", name));
      }
    } else {
      for (AtomId piece : side_.unit(root)) {
        include(piece, "new, used by " + name);
      }
    }
    return;
  }
  if (side_.is_private(*to)) {
    include_private(*to, "content used by " + name);
    return;
  }
  if (lives_in_process(*to)) {
    bind(ref.symbol, elf::is_writable(target.storage) ? "variable of the program"
                                                      : "read-only data of the program");
    return;
  }
  if (correlation_.ambiguous_patched[*to]) {
    report_.refuse(
        "state-ambiguous", describe_atom(side_, *to),
        fmt::format("used by {}; the original has several variables that it could be", name));
  }
  include(*to, correlation_.original_of[*to] ? "changed, used by " + name : "new, used by " + name);
}

void Closure::check_reference(AtomId from, const elf::Ref& ref) {
  const elf::AtomSymbol& s = side_.graph.symbols[ref.symbol];
  const elf::RelocTraits* traits = elf::find_traits(ref.type);
  if (traits == nullptr) {
    report_.refuse("reloc-unknown", describe_atom(side_, from),
                   fmt::format("type {} at {:#x}, symbol {}", static_cast<uint32_t>(ref.type),
                               ref.at, s.name));
    return;
  }
  if (!s.atom && s.name.empty()) {
    report_.refuse("object-unsupported", describe_atom(side_, from),
                   fmt::format("{} at {:#x} refers to no symbol", traits->name, ref.at));
  }
  bool leaves = s.atom && is_code(side_.atom(*s.atom)) && is_code(side_.atom(from)) &&
                side_.root(*s.atom) != side_.root(from);
  if (leaves && traits->width < 4) {
    report_.refuse(
        "no-function-sections", describe_atom(side_, from),
        fmt::format("its jump to {} has only {} byte for the distance", s.name, traits->width));
  }
}

void Closure::check_included(AtomId id) {
  const elf::Atom& a = side_.atom(id);
  const elf::AtomSymbol& s = side_.graph.symbols[a.symbol];
  std::string name = describe_atom(side_, id);
  if (a.comdat) {
    report_.refuse("comdat-unsupported", name, fmt::format("it would be {}", why_[id]));
  }
  if (s.type == elf::SymbolType::GnuIfunc) {
    report_.refuse("ifunc-unsupported", name, why_[id]);
  }
  if (a.runs_on) {
    report_.refuse("object-unsupported", name, "at its end execution runs on into what follows it");
  }
  if (is_code(a) && s.anonymous) {
    report_.refuse("file-scope-asm", a.section,
                   fmt::format("{} bytes of code without a symbol changed", a.size));
  }
  // Sections whose name is an identifier are arrays that the program walks from __start_ to
  // __stop_.
  bool identifier = !a.section.empty() && a.section[0] != '.' && a.section != "COMMON";
  for (char c : a.section) {
    identifier = identifier && (std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_');
  }
  if (identifier && !is_code(a)) {
    report_.refuse("object-unsupported", name,
                   fmt::format("it would be a new element of the section {}, which the program "
                               "has laid out already",
                               a.section));
  }
  for (const elf::Ref& ref : a.refs) {
    follow(id, ref);
  }
  for (const elf::FrameEntry& f : a.frames) {
    if (f.personality) {
      follow(id, *f.personality);
    }
    if (f.lsda) {
      follow(id, *f.lsda);
    }
  }
}

void Closure::run() {
  const auto& symbols = sides_.original.graph.symbols;
  for (elf::AtomSymbolId id = 0; id < symbols.size(); ++id) {
    if (!symbols[id].atom || symbols[id].bind != elf::SymbolBind::Local) {
      original_names_.emplace(symbols[id].name + "@" + symbols[id].version, id);
    }
  }
  for (const Unit& u : diff_.units) {
    if (u.fate == Fate::Changed || u.fate == Fate::New) {
      std::string why = u.fate == Fate::Changed ? "changed" : "new";
      include(*u.patched, why);
      for (AtomId piece : u.patched_pieces) {
        include(piece, "piece of " + u.name);
      }
    }
  }
  for (AtomId id = 0; id < side_.graph.atoms.size(); ++id) {
    const elf::Atom& a = side_.atom(id);
    bool data = !is_code(a) && !side_.is_init(id) && !side_.is_private(id) && !side_.is_aside(id);
    if (data && !correlation_.original_of[id] && !correlation_.ambiguous_patched[id]) {
      include(id, "new");
    }
  }
  while (!open_.empty()) {
    AtomId id = open_.back();
    open_.pop_back();
    check_included(id);
  }
  for (AtomId id = 0; id < why_.size(); ++id) {
    if (!why_[id].empty()) {
      diff_.included.push_back({id, why_[id]});
    }
  }
  for (const auto& [symbol, why] : bound_) {
    diff_.bound.push_back({symbol, original_symbol(symbol), why});
  }
}

}  // namespace

void close_over(const Sides& sides, const Correlation& correlation, Contents& contents, Diff& diff,
                Report& report) {
  Closure(sides, correlation, contents, diff, report).run();
}

}  // namespace qp::objdiff
