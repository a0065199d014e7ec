// Which atom of the patched object is the successor of which atom of the original one.
//
// A name decides where it is the programmer's own. Where the compiler appended numbers it does not:
// `static int aaa` in two functions is aaa.1593 and aaa.1598 in one compilation and aaa.1601 and
// aaa.1596 in the next, and pairing by the full name would swap the state of two variables without
// a sound.
//
//   1. exact name, unique on both sides, that compilers don't count          functions, variables
//   2. the same stem (names.cc), one on each side                           functions
//      among those of one stem the same code, then the same users or the    functions
//      same position in unchanged code, then (if they are only called) the
//      same full name
//   3. the same stem and a common user, to a fixpoint                       variables
//      the same place in the source, if none came or went in their function
//      the same position in the unchanged code of a common user
//   4. the same content among those of one stem               read-only data, what nobody uses
//
// A wrong pair of *functions* that are only called is harmless: they are compared afterwards,
// callers too, and a function that goes to the wrong successor comes out as changed. But such a
// pair says nothing about what the function uses (by_number_). A wrong pair of *variables* mixes up
// state, so what is left with candidates on both sides after step 3 is ambiguous, and a patch that
// needs it is refused.
//
// Users that come or go (an inlined helper, an outlined part) are replaced by their own users, so
// that a static local of a function that is now inlined is still found by the caller.

#include <algorithm>
#include <functional>
#include <map>
#include <set>
#include <string>

#include "objdiff/contents.h"
#include "objdiff/instrumentation.h"
#include "objdiff/names.h"
#include "objdiff/sides.h"

namespace qp::objdiff {
namespace {

using elf::AtomId;
using Ids = std::vector<AtomId>;

// Atoms of one stem, on both sides.
struct Group {
  Ids original, patched;
};

class Correlator {
 public:
  explicit Correlator(const Sides& sides) : sides_(sides) {
    out_.original_of.resize(sides.patched.graph.atoms.size());
    out_.patched_of.resize(sides.original.graph.atoms.size());
    out_.ambiguous_original.resize(sides.original.graph.atoms.size());
    out_.ambiguous_patched.resize(sides.patched.graph.atoms.size());
    by_number_.resize(sides.original.graph.atoms.size());
  }
  Correlation run();

 private:
  void pair_plain_names();
  std::map<std::string, Group> group_rest(bool code) const;
  void pair_functions();
  void pair_clones(Group& group);
  bool only_called(const Side& side, AtomId function) const;
  void pair_anonymous();
  bool pair_by_users(Group& group);
  bool pair_by_declaration(Group& group);
  bool pair_guards(Group& group);
  bool pair_by_position(Group& group);
  void pair_by_content(Group& group);
  void pair_unused(Group& group);
  void mark_ambiguous(const Group& group);
  std::set<AtomId> users(const Side& side, AtomId id) const;
  bool pair_unique(Group& group, const std::vector<std::pair<AtomId, AtomId>>& edges);

  bool is_original(const Side& side) const { return &side == &sides_.original; }
  bool paired(const Side& side, AtomId id) const {
    return (is_original(side) ? out_.patched_of : out_.original_of)[id].has_value();
  }
  // Paired, and not only by number: it says something about what it uses.
  bool known(const Side& side, AtomId id) const {
    return paired(side, id) && !by_number_[is_original(side) ? id : *out_.original_of[id]];
  }
  bool compatible(AtomId o, AtomId p) const {
    const elf::Atom &a = sides_.original.atom(o), &b = sides_.patched.atom(p);
    return is_code(a) == is_code(b) && elf::is_tls(a.storage) == elf::is_tls(b.storage);
  }
  bool nameable(const Side& side, AtomId id) const {
    return !side.is_private(id) && !side.is_init(id) &&
           !side.graph.symbols[side.atom(id).symbol].anonymous;
  }
  void drop_paired(Group& group) const {
    std::erase_if(group.original, [&](AtomId id) { return paired(sides_.original, id); });
    std::erase_if(group.patched, [&](AtomId id) { return paired(sides_.patched, id); });
  }

  const Sides& sides_;
  Correlation out_;
  std::vector<bool> by_number_;  // original functions: their pair is a guess that does no harm
};

// Step 1. Aliases count too, so that a function which gets a second name is still itself.
void Correlator::pair_plain_names() {
  auto index = [&](const Side& side) {
    std::map<std::string_view, std::set<AtomId>> names;
    for (const elf::AtomSymbol& s : side.graph.symbols) {
      if (s.atom && s.offset == 0 && !s.anonymous && !is_counted(s.name) &&
          nameable(side, *s.atom)) {
        names[s.name].insert(*s.atom);
      }
    }
    return names;
  };
  auto original = index(sides_.original), patched = index(sides_.patched);
  // Own names first; aliases then only join what is still free.
  for (bool aliases : {false, true}) {
    for (const auto& [name, ids] : original) {
      auto it = patched.find(name);
      if (it == patched.end() || ids.size() != 1 || it->second.size() != 1) {
        continue;
      }
      AtomId o = *ids.begin(), p = *it->second.begin();
      bool own =
          sides_.original.graph.name_of(o) == name && sides_.patched.graph.name_of(p) == name;
      if ((own || aliases) && !out_.patched_of[o] && !out_.original_of[p] && compatible(o, p)) {
        out_.pair(o, p);
      }
    }
  }
}

std::map<std::string, Group> Correlator::group_rest(bool code) const {
  std::map<std::string, Group> groups;
  auto add = [&](const Side& side, Ids Group::*list) {
    for (AtomId id = 0; id < side.graph.atoms.size(); ++id) {
      const elf::Atom& a = side.atom(id);
      if (is_code(a) == code && !paired(side, id) && nameable(side, id)) {
        std::string key = stem(side.graph.name_of(id)) + (elf::is_tls(a.storage) ? " tls" : "");
        (groups[key].*list).push_back(id);
      }
    }
  };
  add(sides_.original, &Group::original);
  add(sides_.patched, &Group::patched);
  std::erase_if(
      groups, [](const auto& g) { return g.second.original.empty() || g.second.patched.empty(); });
  return groups;
}

// Step 2.
void Correlator::pair_functions() {
  auto groups = group_rest(true);
  for (auto& [key, group] : groups) {
    if (group.original.size() == 1 && group.patched.size() == 1) {
      out_.pair(group.original[0], group.patched[0]);
      drop_paired(group);
      continue;
    }
    // Clones of one function: equal code first, where it is unique.
    std::map<std::string_view, Group> by_code;
    for (AtomId id : group.original) {
      by_code[as_text(sides_.original.atom(id).bytes)].original.push_back(id);
    }
    for (AtomId id : group.patched) {
      by_code[as_text(sides_.patched.atom(id).bytes)].patched.push_back(id);
    }
    for (const auto& [code, same] : by_code) {
      if (same.original.size() == 1 && same.patched.size() == 1) {
        out_.pair(same.original[0], same.patched[0]);
      }
    }
    drop_paired(group);
  }
  for (bool again = true; again;) {
    again = false;
    for (auto& [key, group] : groups) {
      again = pair_by_users(group) || pair_by_position(group) || again;
    }
  }
  for (auto& [key, group] : groups) {
    pair_clones(group);
  }
}

// What is left of a stem by full name, though the number in it counts through the unit. If these
// are clones, which are only called, a wrong pair does no harm. But where an address was taken
// there may be pointers to the one function in the process that would lead to the other: statics of
// one name out of several files, which link-time optimisation has put together.
void Correlator::pair_clones(Group& group) {
  for (AtomId o : group.original) {
    for (AtomId p : group.patched) {
      bool same_name = sides_.original.graph.name_of(o) == sides_.patched.graph.name_of(p);
      if (!out_.patched_of[o] && !out_.original_of[p] && same_name &&
          only_called(sides_.original, o) && only_called(sides_.patched, p)) {
        out_.pair(o, p);
        by_number_[o] = true;
      }
    }
  }
  drop_paired(group);
  if (group.original.size() == 1 && group.patched.size() == 1) {
    out_.pair(group.original[0], group.patched[0]);
    by_number_[group.original[0]] = true;  // as good as those before it
  }
}

bool Correlator::only_called(const Side& side, AtomId function) const {
  const auto& users = side.referrers(function);
  return std::all_of(users.begin(), users.end(), [&](AtomId user) {
    const elf::Atom& a = side.atom(user);
    if (a.kind == elf::AtomKind::JumpTable || is_lsda(a)) {
      return true;  // its own, for places inside of it
    }
    return is_code(a) && std::all_of(a.refs.begin(), a.refs.end(), [&](const elf::Ref& ref) {
             return side.target(ref) != function || side.code_map(user)->is_direct_branch(ref.at);
           });
  });
}

// Who uses `id`, as original ids of correlated named atoms.
std::set<AtomId> Correlator::users(const Side& side, AtomId id) const {
  std::set<AtomId> found, seen;
  Ids open = {id};
  while (!open.empty()) {
    AtomId at = open.back();
    open.pop_back();
    for (AtomId user : side.referrers(at)) {
      AtomId who = is_code(side.atom(user)) ? side.root(user) : user;
      if (who == id || !seen.insert(who).second) {
        continue;
      }
      if (known(side, who)) {
        found.insert(is_original(side) ? who : *out_.original_of[who]);
      } else {
        open.push_back(who);
      }
    }
  }
  return found;
}

// Pairs that are each other's only edge.
bool Correlator::pair_unique(Group& group, const std::vector<std::pair<AtomId, AtomId>>& edges) {
  std::map<AtomId, int> original, patched;
  for (auto [o, p] : edges) {
    ++original[o];
    ++patched[p];
  }
  bool any = false;
  for (auto [o, p] : edges) {
    if (original[o] == 1 && patched[p] == 1) {
      out_.pair(o, p);
      any = true;
    }
  }
  drop_paired(group);
  return any;
}

// Step 3. First the same users, then a common one.
bool Correlator::pair_by_users(Group& group) {
  std::map<AtomId, std::set<AtomId>> users_of;
  std::map<AtomId, Ids> used_by;
  for (AtomId id : group.original) {
    for (AtomId user : users_of[id] = users(sides_.original, id)) {
      used_by[user].push_back(id);
    }
  }
  std::vector<std::pair<AtomId, AtomId>> same, common;
  for (AtomId p : group.patched) {
    std::set<AtomId> who = users(sides_.patched, p), met;
    for (AtomId user : who) {
      for (AtomId o : used_by[user]) {
        if (met.insert(o).second) {
          common.emplace_back(o, p);
          if (users_of[o] == who) {
            same.emplace_back(o, p);
          }
        }
      }
    }
  }
  return pair_unique(group, same) || pair_unique(group, common);
}

// Step 3, static locals of one name in one function. Unchanged lines keep their numbers
// (build/line_directives.h), but a line that came or went may have taken the number of another. So
// the places decide only together: as many as before, each where it was.
bool Correlator::pair_by_declaration(Group& group) {
  std::map<std::string, std::map<std::string, Group>> functions;  // by function, by place
  auto add = [&](const Side& side, const Ids& ids, Ids Group::*list) {
    for (AtomId id : ids) {
      const elf::Atom& a = side.atom(id);
      (functions[a.declared_in][a.declared_at].*list).push_back(id);
    }
  };
  add(sides_.original, group.original, &Group::original);
  add(sides_.patched, group.patched, &Group::patched);
  bool any = false;
  for (const auto& [function, places] : functions) {
    bool as_before = !function.empty() && std::all_of(places.begin(), places.end(), [](auto& p) {
      return p.second.original.size() == 1 && p.second.patched.size() == 1;
    });
    for (const auto& [place, pair] : places) {
      if (as_before) {
        out_.pair(pair.original[0], pair.patched[0]);
        any = true;
      }
    }
  }
  drop_paired(group);
  return any;
}

// Step 3: the guard of a C++ static local goes with its variable (_ZGVZ1fiE1n with _ZZ1fiE1n).
bool Correlator::pair_guards(Group& group) {
  constexpr std::string_view kGuard = "_ZGVZ";
  auto variable_of = [&](const Side& side, AtomId guard) {
    const std::string& name = side.graph.name_of(guard);
    return name.starts_with(kGuard) ? "_ZZ" + name.substr(kGuard.size()) : std::string();
  };
  std::map<std::string, AtomId> variables;
  for (AtomId id = 0; id < sides_.patched.graph.atoms.size(); ++id) {
    variables.emplace(sides_.patched.graph.name_of(id), id);
  }
  std::vector<std::pair<AtomId, AtomId>> edges;
  for (AtomId p : group.patched) {
    auto variable = variables.find(variable_of(sides_.patched, p));
    if (variable == variables.end() || !paired(sides_.patched, variable->second)) {
      continue;
    }
    AtomId original = *out_.original_of[variable->second];
    for (AtomId o : group.original) {
      if (variable_of(sides_.original, o) == sides_.original.graph.name_of(original)) {
        edges.emplace_back(o, p);
      }
    }
  }
  return pair_unique(group, edges);
}

// Step 3, last part: code that is byte-equal refers to them in the same order.
bool Correlator::pair_by_position(Group& group) {
  std::set<std::pair<AtomId, AtomId>> edges;
  std::set<AtomId> patched(group.patched.begin(), group.patched.end());
  for (AtomId o : group.original) {
    for (AtomId user : sides_.original.referrers(o)) {
      auto successor = out_.patched_of[user];
      // A table of functions in data may have got another order in the source.
      bool table = is_code(sides_.original.atom(o)) && !is_code(sides_.original.atom(user));
      if (!successor || by_number_[user] || table) {
        continue;
      }
      const elf::Atom &a = sides_.original.atom(user), &b = sides_.patched.atom(*successor);
      if (a.bytes != b.bytes || a.refs.size() != b.refs.size()) {
        continue;
      }
      for (size_t n = 0; n < a.refs.size(); ++n) {
        auto to = sides_.patched.target(b.refs[n]);
        if (sides_.original.target(a.refs[n]) == o && a.refs[n].at == b.refs[n].at &&
            a.refs[n].addend == b.refs[n].addend && to && patched.contains(*to)) {
          edges.emplace(o, *to);
        }
      }
    }
  }
  return pair_unique(group, {edges.begin(), edges.end()});
}

// Step 4.
void Correlator::pair_by_content(Group& group) {
  std::map<std::pair<size_t, std::string_view>, Group> same;
  auto add = [&](const Side& side, const Ids& ids, Ids Group::*list) {
    for (AtomId id : ids) {
      const elf::Atom& a = side.atom(id);
      if (is_read_only(a)) {
        (same[{a.refs.size(), as_text(a.bytes)}].*list).push_back(id);
      }
    }
  };
  add(sides_.original, group.original, &Group::original);
  add(sides_.patched, group.patched, &Group::patched);
  for (const auto& [key, ids] : same) {
    for (size_t n = 0; n < std::min(ids.original.size(), ids.patched.size()); ++n) {
      out_.pair(ids.original[n], ids.patched[n]);
    }
  }
  drop_paired(group);
}

// Code and writable data without a name: by section and order, if their number there is the same;
// else by users, and what is left of state is ambiguous.
void Correlator::pair_anonymous() {
  std::map<std::string_view, Group> groups;
  auto add = [&](const Side& side, Ids Group::*list) {
    for (AtomId id = 0; id < side.graph.atoms.size(); ++id) {
      if (side.graph.symbols[side.atom(id).symbol].anonymous && !side.is_private(id) &&
          !side.is_init(id)) {
        (groups[side.atom(id).section].*list).push_back(id);
      }
    }
  };
  add(sides_.original, &Group::original);
  add(sides_.patched, &Group::patched);
  for (auto& [section, group] : groups) {
    bool even = group.original.size() == group.patched.size();
    for (size_t n = 0; even && n < group.original.size(); ++n) {
      even = sides_.original.atom(group.original[n]).size ==
             sides_.patched.atom(group.patched[n]).size;
    }
    for (size_t n = 0; even && n < group.original.size(); ++n) {
      out_.pair(group.original[n], group.patched[n]);
    }
    if (!even && !group.original.empty() && !is_code(sides_.original.atom(group.original[0]))) {
      while (pair_by_users(group)) {
      }
      mark_ambiguous(group);
    }
  }
}

// Without optimisation static locals stay that nothing refers to. No code can mix them up.
void Correlator::pair_unused(Group& group) {
  const auto is_unused = [](const Side& side) {
    return [&side](AtomId id) { return side.referrers(id).empty(); };
  };
  const auto used_o = std::stable_partition(group.original.begin(), group.original.end(),
                                            std::not_fn(is_unused(sides_.original)));
  const auto used_p = std::stable_partition(group.patched.begin(), group.patched.end(),
                                            std::not_fn(is_unused(sides_.patched)));
  for (auto o = used_o; o != group.original.end(); ++o) {
    const elf::Atom& a = sides_.original.atom(*o);
    const auto same = std::find_if(used_p, group.patched.end(), [&](AtomId p) {
      const elf::Atom& b = sides_.patched.atom(p);
      return !out_.original_of[p] && a.size == b.size && a.bytes == b.bytes &&
             a.refs.size() == b.refs.size() && a.storage == b.storage && a.alignment == b.alignment;
    });
    if (a.refs.empty() && same != group.patched.end()) {
      out_.pair(*o, *same);
    }
  }
  group.original.erase(used_o, group.original.end());
  group.patched.erase(used_p, group.patched.end());
}

// State with candidates on both sides.
void Correlator::mark_ambiguous(const Group& group) {
  if (group.original.empty() || group.patched.empty()) {
    return;
  }
  for (AtomId o : group.original) {
    out_.ambiguous_original[o] = elf::is_writable(sides_.original.atom(o).storage);
  }
  for (AtomId p : group.patched) {
    out_.ambiguous_patched[p] = elf::is_writable(sides_.patched.atom(p).storage);
  }
}

Correlation Correlator::run() {
  pair_plain_names();
  pair_functions();
  pair_anonymous();
  auto groups = group_rest(false);
  // clang's f.aaa names function and variable; alone on both sides it is as good as a plain name.
  for (auto& [key, group] : groups) {
    if (group.original.size() == 1 && group.patched.size() == 1) {
      const std::string& name = sides_.original.graph.name_of(group.original[0]);
      if (name == sides_.patched.graph.name_of(group.patched[0]) && stem(name) == name &&
          compatible(group.original[0], group.patched[0])) {
        out_.pair(group.original[0], group.patched[0]);
        drop_paired(group);
      }
    }
  }
  for (bool again = true; again;) {
    again = false;
    for (auto& [key, group] : groups) {
      if (!group.original.empty() && !group.patched.empty()) {
        again = pair_by_users(group) || pair_by_declaration(group) || pair_guards(group) ||
                pair_by_position(group) || again;
      }
    }
  }
  for (auto& [key, group] : groups) {
    pair_by_content(group);
    pair_unused(group);
    mark_ambiguous(group);
  }
  part_resized_counters(sides_, out_);
  return std::move(out_);
}

}  // namespace

Correlation correlate(const Sides& sides) {
  return Correlator(sides).run();
}

}  // namespace qp::objdiff
