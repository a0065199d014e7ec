// Law 1 as code: nothing is lost.
//
// This runs at the end of every diff and asks of every atom on both sides: is it the same as its
// counterpart, or does the patch account for the difference, or does a refusal name it? It takes
// nothing from the diff but the pairs and the list of what is included, and it compares by other
// means than the diff did: raw bytes and references first, and where bytes differ, the text of a
// canonical listing. A mistake in tokens, content numbers or closure would have to be made twice to
// pass.
//
// Accounted for is
//   - a patched atom that is included;
//   - an original function that is gone, or whose unit is replaced;
//   - an original variable that is gone (its memory stays);
//   - private data whose users are all accounted for;
//   - merged strings and constants that nobody uses: no pointer may lead from one to another.

#include <algorithm>
#include <set>
#include <string>

#include <fmt/format.h>

#include "insn/instruction.h"
#include "objdiff/contents.h"
#include "objdiff/diff.h"
#include "objdiff/explain.h"
#include "objdiff/sides.h"

namespace qp::objdiff {
namespace {

using elf::AtomId;

class Check {
 public:
  Check(const Diff& diff, Report& report)
      : diff_(diff),
        report_(report),
        original_(diff.original),
        patched_(diff.patched),
        included_(diff.patched.atoms.size()),
        replaced_(diff.original.atoms.size()) {
    for (const Inclusion& i : diff.included) {
      included_[i.patched] = true;
    }
    for (const Unit& u : diff.units) {
      if (u.original && (u.fate == Fate::Changed || u.fate == Fate::Removed)) {
        replaced_[*u.original] = true;
        for (AtomId piece : u.original_pieces) {
          replaced_[piece] = true;
        }
      }
    }
    for (const auto* list : {&report.refusals(), &report.waived()}) {
      for (const Refusal& r : *list) {
        named_.insert(r.where);
      }
    }
  }

  void run() {
    for (AtomId p = 0; p < patched_.graph.atoms.size(); ++p) {
      check_patched(p);
    }
    for (AtomId o = 0; o < original_.graph.atoms.size(); ++o) {
      check_original(o);
    }
  }

 private:
  bool is_named(const Side& side, AtomId id) const {
    return named_.contains(describe_atom(side, id)) || named_.contains(side.atom(id).section);
  }
  void refuse(const Side& side, AtomId id, std::string detail) {
    report_.refuse("diff-unexplained", describe_atom(side, id), std::move(detail));
  }
  // Bytes that the linker may place anywhere: no pointer crosses into or out of them.
  static bool stands_alone(const elf::Atom& a) {
    return a.kind == elf::AtomKind::String || a.kind == elf::AtomKind::Constant;
  }

  void check_patched(AtomId p) {
    if (included_[p] || is_named(patched_, p)) {
      return;
    }
    if (patched_.is_init(p) || patched_.is_aside(p)) {
      return;  // lists are compared as a whole, see check_original; hooks.cc reads all its records
    }
    auto o = diff_.original_of[p];
    if (o && same(*o, p)) {
      return;
    }
    if (o) {
      refuse(patched_, p, "it differs from its counterpart, and the patch does not contain it");
      return;
    }
    if (!patched_.is_private(p)) {
      refuse(patched_, p, "it is new, and the patch does not contain it");
      return;
    }
    const auto& users = patched_.referrers(p);
    if (users.empty() && !stands_alone(patched_.atom(p))) {
      refuse(patched_, p, "data that nobody refers to by itself is new or changed");
    }
    for (AtomId user : users) {
      bool chain = patched_.is_private(user) && !diff_.original_of[user];  // asked by itself
      if (!included_[user] && !chain && !is_named(patched_, user) && !patched_.is_aside(user)) {
        refuse(patched_, p,
               fmt::format("it is new or changed, and {} uses it and is not in the patch",
                           describe_atom(patched_, user)));
      }
    }
  }

  void check_original(AtomId o) {
    if (is_named(original_, o) || original_.is_aside(o)) {
      return;
    }
    if (original_.is_init(o)) {
      if (!same_init(o)) {
        refuse(original_, o, "what runs at start or exit differs");
      }
      return;
    }
    if (diff_.patched_of[o] || !original_.is_private(o)) {
      return;  // pairs are checked from the other side; functions and variables may go
    }
    const auto& users = original_.referrers(o);
    if (users.empty() && !stands_alone(original_.atom(o))) {
      refuse(original_, o, "data that nobody refers to by itself is gone or changed");
    }
    for (AtomId user : users) {
      auto successor = diff_.patched_of[user];
      bool gone = !successor && !is_code(original_.atom(user));  // a variable, or asked by itself
      bool replaced = replaced_[user] || (successor && included_[*successor]);
      if (!gone && !replaced && !is_named(original_, user) && !original_.is_aside(user)) {
        refuse(original_, o,
               fmt::format("it is gone or changed, and {} used it and is not replaced",
                           describe_atom(original_, user)));
      }
    }
  }

  bool same_init(AtomId o) const {
    const elf::Atom& a = original_.atom(o);
    for (AtomId p = 0; p < patched_.graph.atoms.size(); ++p) {
      if (patched_.is_init(p) && patched_.atom(p).section == a.section && same_bytes(o, p) &&
          same_references(o, p)) {
        return true;
      }
    }
    return false;
  }

  bool same(AtomId o, AtomId p) const {
    if (same_bytes(o, p) && same_references(o, p)) {
      return true;
    }
    bool code = is_code(original_.atom(o)) && is_code(patched_.atom(p));
    return code && listing(original_, o) == listing(patched_, p);
  }

  bool same_bytes(AtomId o, AtomId p) const {
    const elf::Atom &a = original_.atom(o), &b = patched_.atom(p);
    auto zero = [](const elf::Atom& x) {
      return std::all_of(x.bytes.begin(), x.bytes.end(),
                         [](std::byte c) { return c == std::byte{0}; });
    };
    return a.size == b.size && (a.bytes == b.bytes || (zero(a) && zero(b)));
  }

  bool same_references(AtomId o, AtomId p) const {
    const elf::Atom &a = original_.atom(o), &b = patched_.atom(p);
    if (a.refs.size() != b.refs.size()) {
      return false;
    }
    for (size_t n = 0; n < a.refs.size(); ++n) {
      const elf::Ref &x = a.refs[n], &y = b.refs[n];
      if (x.at != y.at || reference_group(x.type) != reference_group(y.type) ||
          target_text(original_, o, x) != target_text(patched_, p, y)) {
        return false;
      }
    }
    return true;
  }

  // What a reference leads to, in words that mean the same on both sides.
  std::string target_text(const Side& side, AtomId from, const elf::Ref& ref) const {
    bool is_original = &side == &original_;
    int64_t offset = target_offset(ref, side.atom(from), side.code_map(from));
    auto to = side.target(ref);
    if (!to) {
      const elf::AtomSymbol& s = side.graph.symbols[ref.symbol];
      return fmt::format("outside {}@{}{:+}", s.name, s.version, offset);
    }
    const elf::Atom& target = side.atom(*to);
    auto pair = is_original ? std::optional(*to) : diff_.original_of[*to];
    if (side.is_private(*to)) {
      // By content, which pair_private has paired; a table by what it says, since it is short.
      return fmt::format("content {}{:+}", content_text(side, *to, 0), offset);
    }
    if (!pair || (is_original && !diff_.patched_of[*to])) {
      return fmt::format("only {} {}{:+}", is_original ? "original" : "patched", *to, offset);
    }
    if (is_code(target) && offset != 0) {
      auto index = side.code_map(*to)->index_at(offset);
      return fmt::format("code {} {}{}", *pair, index ? "#" : "+", index ? *index : offset);
    }
    return fmt::format("atom {}{:+}", *pair, offset);
  }

  std::string content_text(const Side& side, AtomId id, int depth) const {
    const elf::Atom& a = side.atom(id);
    std::string text(as_text(a.bytes));
    if (depth > 8) {
      return text;  // deeper data has been compared on the way to it
    }
    for (const elf::Ref& ref : a.refs) {
      auto to = side.target(ref);
      text += fmt::format("|{}:", ref.at);
      text += to && side.is_private(*to) ? fmt::format("{}{:+}", content_text(side, *to, depth + 1),
                                                       target_offset(ref, a, side.code_map(id)))
                                         : target_text(side, id, ref);
    }
    return text;
  }

  // Canonical listing: one line per instruction that is not a NOP.
  std::string listing(const Side& side, AtomId id) const {
    const elf::Atom& a = side.atom(id);
    const CodeMap& map = *side.code_map(id);
    if (!map.complete()) {
      return fmt::format("undecodable {} {}", &side == &original_ ? "original" : "patched", id);
    }
    std::string out;
    size_t next = 0;
    for (uint64_t at = 0; at < a.bytes.size();) {
      auto i = insn::decode(a.bytes, at);
      if (!i->is_nop) {
        insn::Shape shape = insn::shape_of(a.bytes, at, *i);
        out.append(reinterpret_cast<const char*>(shape.bytes), shape.size);
        auto field = [&](char name, const insn::Field& f, bool place) {
          for (size_t n = next; n < a.refs.size() && a.refs[n].at < at + i->length; ++n) {
            if (f.size != 0 && a.refs[n].at == at + f.offset) {
              return;
            }
          }
          int64_t value = f.value;
          if (place && f.size != 0) {
            int64_t to = static_cast<int64_t>(at) + i->length + f.value;
            auto index = map.index_at(to);
            value = index ? *index : -1 - to;
          }
          out += fmt::format(" {}{}", name, value);
        };
        field('b', i->branch, true);
        field('d', i->displacement, i->rip_relative);
        field('i', i->immediate, false);
        field('j', i->immediate2, false);
        for (; next < a.refs.size() && a.refs[next].at < at + i->length; ++next) {
          const elf::Ref& ref = a.refs[next];
          out += fmt::format(" {}:{}", static_cast<uint32_t>(reference_group(ref.type)),
                             target_text(side, id, ref));
        }
        out += '\n';
      }
      at += i->length;
    }
    return out;
  }

  const Diff& diff_;
  Report& report_;
  Side original_, patched_;
  std::vector<bool> included_, replaced_;
  std::set<std::string> named_;
};

}  // namespace

void check_explained(const Diff& diff, Report& report) {
  Check(diff, report).run();
}

}  // namespace qp::objdiff
