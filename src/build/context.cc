// A function that is alone in its unit has nothing there that confirms its place: its callers are
// in other units, and so are the functions that share its variables. New code can call a function
// of the target that the unit never mentioned. With a symbol table both are mostly a matter of names.
// Without one, the rest of the program knows: it was compiled with commands that the database has.
//
// A symbol table does not tell everything either. A global that is hidden, made local by a version
// script, or not exported by mold's executables has a local entry, as statics of that name have. The
// units that define it or refer to it know which one it is. Nothing may be left to ld.so here: where
// the static linker found a symbol in the program, another module's of that name is a wrong one.
//
// So when something stays open, units are taken in whose source text mentions one of the globals in
// question: those that the open unit defines, since their users know where they are, and those that
// new code wants. They are compiled as they were, joined with the open unit to one graph, and
// matched as one; all rules of match hold across them. A unit that is not part of the target finds
// no place there and says nothing.
//
// The text decides what is tried and nothing else: a word in a comment costs a compilation.

#include "build/context.h"

#include <algorithm>
#include <cctype>
#include <set>

#include <fmt/format.h>

#include "base/error.h"
#include "base/fd.h"
#include "build/absence.h"
#include "build/compile.h"
#include "build/parallel.h"
#include "match/candidates.h"
#include "objdiff/merge.h"

namespace qp::build {

namespace fs = std::filesystem;

namespace {

constexpr size_t kMostUnits = 24;  // of one round
constexpr int kRounds = 3;         // callers, their callers, and theirs

bool is_global(const elf::AtomSymbol& symbol) {
  return symbol.bind != elf::SymbolBind::Local && !symbol.anonymous && !symbol.name.empty();
}

bool is_open(const Analysis& unit) {
  return unit.part_of_target && unit.before_match && !unit.report.clean();
}

// True if neither an import nor a global entry says where the name leads, and it may be in the target.
bool is_untold(const std::string& name, const match::SymbolMap& symbols) {
  const auto entries = symbols.named(name);
  return symbols.import_named(name) == nullptr &&
         std::all_of(entries.begin(), entries.end(),
                     [](auto* e) { return e->bind == elf::SymbolBind::Local; }) &&
         !(entries.empty() && symbols.has_symtab());
}

void add_defined(const elf::AtomGraph& graph, std::set<std::string>& names) {
  for (const elf::AtomSymbol& symbol : graph.symbols) {
    if (is_global(symbol) && symbol.atom) {
      names.insert(symbol.name);
    }
  }
}

// What several matches say about the globals of one program. A name with two places is none: a unit
// of another program was taken for one of this.
class Globals {
 public:
  void learn(const elf::AtomGraph& graph, const std::vector<elf::Binding>& bindings) {
    for (elf::AtomSymbolId id = 0; id < bindings.size(); ++id) {
      const elf::Binding& binding = bindings[id];
      if (!is_global(graph.symbols[id]) || graph.symbols[id].type == elf::SymbolType::GnuIfunc ||
          (binding.kind != elf::BindingKind::Address &&
           binding.kind != elf::BindingKind::TpOffset)) {
        continue;
      }
      const auto [at, fresh] = known_.emplace(graph.symbols[id].name, binding);
      if (!fresh && (at->second.kind != binding.kind || at->second.address != binding.address ||
                     at->second.tp_offset != binding.tp_offset)) {
        doubtful_.insert(at->first);
      }
    }
  }
  // What the patched unit defines: new atoms are in the patch; a new name of something that stays is
  // where that is.
  void learn_new(const Analysis& unit) {
    const objdiff::Diff& diff = *unit.diff;
    std::set<std::string> before;
    add_defined(diff.original, before);
    for (const elf::AtomSymbol& symbol : diff.patched.symbols) {
      if (!is_global(symbol) || !symbol.atom || before.count(symbol.name) != 0) {
        continue;
      }
      const std::optional<elf::AtomId> original = diff.original_of[*symbol.atom];
      if (!original) {
        of_patch_.insert(symbol.name);
        continue;
      }
      defined_in_.emplace(symbol.name, diff.patched.source);
      new_aliases_.insert(symbol.name);
      const elf::AtomSymbolId stands_for = diff.original.atoms[*original].symbol;
      if (stands_for < unit.matched.bindings.size() &&
          unit.matched.bindings[stands_for].kind == elf::BindingKind::Address) {
        elf::Binding binding = unit.matched.bindings[stands_for];
        binding.address += symbol.offset;
        known_.emplace(symbol.name, std::move(binding));
      }
    }
  }
  // A name that the patched source gives to something that the target has.
  bool is_new(const std::string& name) const { return new_aliases_.count(name) != 0; }
  bool knows(const std::string& name) const {
    return of_patch_.count(name) != 0 || (known_.count(name) != 0 && doubtful_.count(name) == 0);
  }
  // Takes part in the program, or may: what it defines is no other module's.
  void define(const elf::AtomGraph& graph) {
    for (const elf::AtomSymbol& symbol : graph.symbols) {
      if (is_global(symbol) && symbol.atom) {
        defined_in_.emplace(symbol.name, graph.source);
      }
    }
  }
  // Entries of the target that are statics of a unit, and so nobody else's.
  void learn_statics(const elf::AtomGraph& graph, const std::vector<elf::Binding>& bindings) {
    for (elf::AtomSymbolId id = 0; id < bindings.size(); ++id) {
      if (graph.symbols[id].bind == elf::SymbolBind::Local && graph.symbols[id].atom &&
          bindings[id].kind == elf::BindingKind::Address) {
        statics_.emplace(graph.symbols[id].name, bindings[id].address);
      }
    }
  }
  // Of names that new code of the unit wants: may ld.so look for them? Findings: symbol-ambiguous,
  // symbol-missing. `unread`: number of units that mention the name and could not be asked.
  void check(Analysis& unit, const std::string& name, const TargetFile& target, size_t unread) {
    const auto entries = target.symbols.named(name);
    std::vector<LinkAddr> places;
    for (const match::MapEntry* entry : entries) {
      if (statics_.count({name, entry->address}) == 0) {
        places.push_back(entry->address);
      }
    }
    if (doubtful_.count(name) != 0) {
      unit.report.refuse("symbol-ambiguous", name,
                         "units of the compile database have it at different places of the target");
    } else if (const auto found = defined_in_.find(name); found != defined_in_.end()) {
      unit.report.refuse(
          "symbol-missing", name,
          fmt::format("{} defines it, and nothing shows where it is in the target", found->second));
    } else if (!places.empty()) {
      unit.report.refuse(
          "symbol-ambiguous", name,
          fmt::format("the target has a local symbol of that name, {}; it can be a static of "
                      "another file or a global that was kept local, and no unit of the compile "
                      "database that was looked at tells",
                      match::list_of(places, target.symbols)));
    } else if (unread != 0) {
      unit.report.refuse("symbol-missing", name,
                         fmt::format("{} units of the compile database mention it and could not be "
                                     "asked whether it is their own",
                                     unread));
    } else if (!entries.empty()) {
      elf::Binding import;
      import.kind = elf::BindingKind::Import;
      known_.emplace(name, std::move(import));
    }
  }
  // Of `names` only.
  KnownGlobals take(const std::set<std::string>& names) {
    std::erase_if(known_, [&](const auto& known) { return names.count(known.first) == 0; });
    return std::move(known_);
  }

 private:
  KnownGlobals known_;
  std::set<std::string> of_patch_, new_aliases_;
  std::set<std::string> doubtful_;
  std::map<std::string, std::string> defined_in_;  // name → source
  std::set<std::pair<std::string, LinkAddr>> statics_;
};

// Of what new code refers to and the original does not mention: the names that the target does not
// explain, or that a unit defines.
std::set<std::string> new_names(const Analysis& unit, const TargetFile& target,
                                const Globals& globals) {
  std::set<std::string> names, known;
  if (!unit.before_match || !unit.part_of_target) {
    return names;
  }
  for (const elf::AtomSymbol& symbol : unit.diff->original.symbols) {
    known.insert(symbol.name);
  }
  for (const elf::AtomSymbol& symbol : unit.diff->patched.symbols) {
    if (is_global(symbol) && !symbol.atom && known.count(symbol.name) == 0 &&
        (is_untold(symbol.name, target.symbols) || globals.is_new(symbol.name))) {
      names.insert(symbol.name);
    }
  }
  return names;
}

// Units with findings, or with a new name that nobody knows.
std::vector<Analysis*> find_open(std::vector<Analysis>& units, const TargetFile& target,
                                 const Globals& known) {
  std::vector<Analysis*> open;
  for (Analysis& unit : units) {
    const std::set<std::string> names = new_names(unit, target, known);
    const bool unmatched = !target.symbols.has_symtab() && is_open(unit);
    if (unmatched || std::any_of(names.begin(), names.end(),
                                 [&](const std::string& name) { return !known.knows(name); })) {
      open.push_back(&unit);
    }
  }
  return open;
}

size_t count_mentions(const std::string& text, const std::set<std::string>& names) {
  std::set<std::string_view> found;
  const auto is_word = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
  };
  for (size_t at = 0; at < text.size();) {
    if (!is_word(text[at])) {
      ++at;
      continue;
    }
    size_t end = at;
    while (end < text.size() && is_word(text[end])) {
      ++end;
    }
    if (const auto name = names.find(text.substr(at, end - at)); name != names.end()) {
      found.insert(*name);
    }
    at = end;
  }
  return found.size();
}

std::string not_used(const fs::path& source, const Error& why) {
  return fmt::format("{} was not used to find symbols: {}", source.string(), why.what());
}

// Units that mention the name and could not be asked. Of a source that can't be read nothing shows
// that it does not.
size_t count_mentioning(const std::set<fs::path>& sources, const std::string& name) {
  return static_cast<size_t>(std::count_if(sources.begin(), sources.end(), [&](const auto& source) {
    std::error_code error;
    return !fs::is_regular_file(source, error) || count_mentions(read_text(source), {name}) != 0;
  }));
}

// Sources of commands that can't be replayed.
std::set<fs::path> find_unreadable(const std::vector<CompileCommand>& commands) {
  std::set<fs::path> sources;
  for (const CompileCommand& command : commands) {
    if (!command.problem.empty()) {
      sources.insert(command.file);
    }
  }
  return sources;
}

// Commands whose source mentions any of the names, those that mention most first; of the names in
// `first` before all others. `taken`: sources that need not be looked at.
std::vector<const CompileCommand*> find_mentions(const ContextRequest& request,
                                                 const std::set<std::string>& names,
                                                 const std::set<std::string>& first,
                                                 const std::set<fs::path>& taken,
                                                 std::vector<std::string>& warnings) {
  std::vector<std::pair<std::pair<size_t, size_t>, const CompileCommand*>> ranked;
  for (const CompileCommand& command : request.commands) {
    std::error_code error;
    if (taken.count(command.file) != 0 || !command.problem.empty() ||
        !fs::is_regular_file(command.file, error)) {
      continue;
    }
    try {
      const std::string text = read_text(command.file);
      const std::pair mentions(count_mentions(text, first), count_mentions(text, names));
      if (mentions.first + mentions.second != 0) {
        ranked.emplace_back(mentions, &command);
      }
    } catch (const Error& e) {  // it would have helped, no more
      warnings.push_back(not_used(command.file, e));
    }
  }
  std::stable_sort(ranked.begin(), ranked.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  std::vector<const CompileCommand*> out;
  out.reserve(ranked.size());
  for (const auto& [mentions, command] : ranked) {
    out.push_back(command);
  }
  return out;
}

// The commands worth a compilation; their sources join those that are taken.
std::vector<Replay> choose_commands(const std::vector<const CompileCommand*>& mentioning,
                                    std::set<fs::path>& taken, std::set<fs::path>& unread,
                                    std::vector<std::string>& warnings) {
  std::vector<Replay> chosen;
  for (const CompileCommand* command : mentioning) {
    if (chosen.size() == kMostUnits) {
      break;
    }
    taken.insert(command->file);
    try {
      Replay replay = make_replay(*command);
      if (!replay.lto) {
        chosen.push_back(std::move(replay));
        continue;
      }
    } catch (const Error& e) {
      warnings.push_back(not_used(command->file, e));
    }
    unread.insert(command->file);
  }
  return chosen;
}

// A unit taken in, and what it alone says about the target.
struct ContextUnit {
  elf::AtomGraph graph;
  match::Matched matched;
  bool proven = false;
  bool fits() const { return matched.functions_fitting != 0; }
};

std::vector<ContextUnit> compile_context(const ContextRequest& request,
                                         const std::vector<Replay>& chosen,
                                         const TargetFile& target, Absence& absence,
                                         std::set<fs::path>& unread,
                                         std::vector<std::string>& warnings) {
  std::vector<std::optional<ContextUnit>> units(chosen.size());
  std::vector<std::string> failures(chosen.size());
  for_each_parallel(chosen.size(), request.jobs, [&](size_t i) {
    const TempDir directory("qpatch-context");
    const fs::path object = directory.path() / "unit.o";
    try {
      compile_object(chosen[i], request.original, object, "original");
      Report report;
      elf::AtomGraph graph = split_all({object}, report);
      if (!report.clean()) {
        throw Error("object-unsupported", "taking apart", object.string(),
                    report.refusals().front().detail);
      }
      Report alone;
      match::Matched matched = match::match(graph, {}, {}, target.view(), alone);
      const bool proven = alone.clean() && matched.functions_proven != 0;
      units[i] = ContextUnit{std::move(graph), std::move(matched), proven};
    } catch (const Error& e) {
      failures[i] = not_used(chosen[i].source, e);
    }
  });
  for (const std::optional<ContextUnit>& unit : units) {
    if (unit && unit->proven) {
      absence.add_present(unit->graph, unit->matched);
    }
  }
  std::vector<ContextUnit> out;
  for (size_t i = 0; i < chosen.size(); ++i) {
    if (units[i] && !absence.shows_absence(units[i]->graph, units[i]->matched)) {
      out.push_back(std::move(*units[i]));
    } else if (!units[i]) {
      unread.insert(chosen[i].source);
      warnings.push_back(failures[i]);
    }
  }
  return out;
}

// Matches one unit together with others, and keeps what that found if it leaves less open.
void match_together(Analysis& unit, const std::vector<elf::AtomGraph>& others,
                    const TargetFile& target, Globals& known) {
  std::vector<elf::AtomGraph> graphs = {unit.diff->original};
  graphs.insert(graphs.end(), others.begin(), others.end());
  const elf::AtomGraph all = objdiff::merge(std::move(graphs));
  // A reference to a global of another unit became one to its definition there.
  std::map<std::string, elf::AtomSymbolId> defined;
  for (elf::AtomSymbolId id = 0; id < all.symbols.size(); ++id) {
    if (is_global(all.symbols[id]) && all.symbols[id].atom) {
      defined.emplace(all.symbols[id].name, id);
    }
  }
  const elf::AtomGraph& original = unit.diff->original;
  const auto in_all = [&](elf::AtomSymbolId id) {
    const auto found = defined.find(original.symbols[id].name);
    return original.symbols[id].atom || !is_global(original.symbols[id]) || found == defined.end()
               ? id
               : found->second;
  };
  std::vector<elf::AtomSymbolId> wanted;
  for (const elf::AtomSymbolId id : unit.wanted.symbols) {
    wanted.push_back(in_all(id));
  }
  Report report = *unit.before_match;
  match::Matched matched = match::match(all, unit.wanted.functions, wanted, target.view(), report);
  known.learn(all, matched.bindings);
  std::vector<elf::Binding> bindings(original.symbols.size());
  for (elf::AtomSymbolId id = 0; id < original.symbols.size(); ++id) {
    bindings[id] = matched.bindings[in_all(id)];
  }
  matched.bindings = std::move(bindings);
  const bool helps = report.refusals().size() < unit.report.refusals().size() || report.clean();
  if (helps) {
    unit.report = std::move(report);
    unit.matched = std::move(matched);
  }
}

}  // namespace

KnownGlobals match_in_context(std::vector<Analysis>& units, const TargetFile& target,
                              const ContextRequest& request, std::vector<std::string>& warnings) {
  const bool has_names = target.symbols.has_symtab();
  Globals known;
  Absence absence = present_units(units, target);
  std::set<fs::path> taken, unread = find_unreadable(request.commands);
  for (const Analysis& unit : units) {
    taken.insert(unit.unit->replay.source);
    if (unit.diff && unit.part_of_target) {
      known.learn(unit.diff->original, unit.matched.bindings);
      known.learn_statics(unit.diff->original, unit.matched.bindings);
      known.define(unit.diff->original);
      known.learn_new(unit);
    }
  }
  std::vector<elf::AtomGraph> context;
  std::set<std::string> names, wanted;
  for (int round = 0; round < kRounds; ++round) {
    const std::vector<Analysis*> open = find_open(units, target, known);
    if (open.empty()) {
      break;
    }
    for (const Analysis* unit : open) {
      wanted.merge(new_names(*unit, target, known));
      if (!has_names) {
        add_defined(unit->diff->original, names);
      }
    }
    const std::vector<Replay> chosen = choose_commands(
        find_mentions(request, names, wanted, taken, warnings), taken, unread, warnings);
    if (chosen.empty() && (round != 0 || has_names)) {
      break;
    }
    for (ContextUnit& unit : compile_context(request, chosen, target, absence, unread, warnings)) {
      known.define(unit.graph);
      if (has_names) {
        known.learn(unit.graph, unit.matched.bindings);
        known.learn_statics(unit.graph, unit.matched.bindings);
      } else if (unit.fits()) {
        add_defined(unit.graph, names);
        context.push_back(std::move(unit.graph));
      }
    }
    for (Analysis* unit : open) {
      std::vector<elf::AtomGraph> others = context;
      for (const Analysis& other : units) {
        if (&other != unit && other.diff && other.part_of_target) {
          others.push_back(other.diff->original);
        }
      }
      if (!has_names) {
        match_together(*unit, others, target, known);
      }
    }
  }
  for (Analysis& unit : units) {
    for (const std::string& name : new_names(unit, target, known)) {
      wanted.insert(name);
      if (!known.knows(name)) {
        size_t silent = find_mentions(request, {}, {name}, taken, warnings).size();
        silent += count_mentioning(unread, name);
        known.check(unit, name, target, silent);
      }
    }
  }
  return known.take(wanted);
}

}  // namespace qp::build
