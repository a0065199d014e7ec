// A function that is alone in its unit has nothing there that confirms its place: its callers are
// in other units, and so are the functions that share its variables. New code can call a function
// of the target that the unit never mentioned. With a symbol table both are a matter of names.
// Without one, the rest of the program knows: it was compiled with commands that the database has.
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
#include "build/compile.h"
#include "build/parallel.h"
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

// What new code refers to and the original does not mention.
std::set<std::string> new_names(const Analysis& unit, const TargetFile& target) {
  std::set<std::string> names, known;
  if (!unit.before_match || !unit.part_of_target) {
    return names;
  }
  for (const elf::AtomSymbol& symbol : unit.diff->original.symbols) {
    known.insert(symbol.name);
  }
  for (const elf::AtomSymbol& symbol : unit.diff->patched.symbols) {
    if (is_global(symbol) && !symbol.atom && known.count(symbol.name) == 0 &&
        target.symbols.named(symbol.name).empty() &&
        target.symbols.import_named(symbol.name) == nullptr) {
      names.insert(symbol.name);
    }
  }
  return names;
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
      if (!is_global(graph.symbols[id]) || (binding.kind != elf::BindingKind::Address &&
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
  bool knows(const std::string& name) const {
    return known_.count(name) != 0 && doubtful_.count(name) == 0;
  }
  // Finding: symbol-ambiguous, for names that new code of the unit wants.
  void check(Analysis& unit, const std::set<std::string>& wanted) const {
    for (const std::string& name : wanted) {
      if (doubtful_.count(name) != 0) {
        unit.report.refuse("symbol-ambiguous", name,
                           "units of the compile database have it at different places of the "
                           "target, which has lost its names");
      }
    }
  }
  KnownGlobals take() { return std::move(known_); }

 private:
  KnownGlobals known_;
  std::set<std::string> doubtful_;
};

// Units with findings, or with a new name that nobody knows.
std::vector<Analysis*> find_open(std::vector<Analysis>& units, const TargetFile& target,
                                 const Globals& known) {
  std::vector<Analysis*> open;
  for (Analysis& unit : units) {
    const std::set<std::string> names = new_names(unit, target);
    if (is_open(unit) || std::any_of(names.begin(), names.end(),
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

// The commands worth a compilation, those that mention most first.
// `taken`: sources that need not be chosen; those that are chosen join them.
std::vector<Replay> choose_commands(const ContextRequest& request,
                                    const std::set<std::string>& names, std::set<fs::path>& taken,
                                    std::vector<std::string>& warnings) {
  std::vector<std::pair<size_t, const CompileCommand*>> ranked;
  for (const CompileCommand& command : request.commands) {
    std::error_code error;
    if (taken.count(command.file) != 0 || !command.problem.empty() ||
        !fs::is_regular_file(command.file, error)) {
      continue;
    }
    try {
      if (const size_t mentions = count_mentions(read_text(command.file), names); mentions != 0) {
        ranked.emplace_back(mentions, &command);
      }
    } catch (const Error& e) {  // it would have helped, no more
      warnings.push_back(not_used(command.file, e));
    }
  }
  std::stable_sort(ranked.begin(), ranked.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  std::vector<Replay> chosen;
  for (const auto& [mentions, command] : ranked) {
    if (chosen.size() == kMostUnits) {
      break;
    }
    taken.insert(command->file);
    try {
      Replay replay = make_replay(*command);
      if (!replay.lto) {
        chosen.push_back(std::move(replay));
      }
    } catch (const Error& e) {
      warnings.push_back(not_used(command->file, e));
    }
  }
  return chosen;
}

std::vector<elf::AtomGraph> compile_context(const ContextRequest& request,
                                            const std::vector<Replay>& chosen,
                                            const TargetFile& target,
                                            std::vector<std::string>& warnings) {
  std::vector<std::optional<elf::AtomGraph>> graphs(chosen.size());
  std::vector<std::string> failures(chosen.size());
  for_each_parallel(chosen.size(), request.jobs, [&](size_t i) {
    const TempDir directory("qpatch-context");
    const fs::path object = directory.path() / "unit.o";
    try {
      compile_object(chosen[i], request.original, object, "original");
      Report report;
      elf::AtomGraph graph = split_all({object}, report);
      Report fits;
      if (report.clean() &&
          match::match(graph, {}, {}, target.view(), fits).functions_fitting != 0) {
        graphs[i] = std::move(graph);
      }
    } catch (const Error& e) {
      failures[i] = not_used(chosen[i].source, e);
    }
  });
  std::vector<elf::AtomGraph> out;
  for (size_t i = 0; i < chosen.size(); ++i) {
    if (graphs[i]) {
      out.push_back(std::move(*graphs[i]));
    } else if (!failures[i].empty()) {
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
  Globals known;
  if (target.symbols.has_symtab()) {
    return {};
  }
  std::set<fs::path> taken;
  for (const Analysis& unit : units) {
    taken.insert(unit.unit->replay.source);
    if (unit.diff && unit.part_of_target) {
      known.learn(unit.diff->original, unit.matched.bindings);
    }
  }
  std::vector<elf::AtomGraph> context;
  std::set<std::string> names;
  for (int round = 0; round < kRounds; ++round) {
    const std::vector<Analysis*> open = find_open(units, target, known);
    if (open.empty()) {
      break;
    }
    for (const Analysis* unit : open) {
      names.merge(new_names(*unit, target));
      add_defined(unit->diff->original, names);
    }
    const std::vector<Replay> chosen = choose_commands(request, names, taken, warnings);
    if (chosen.empty() && round != 0) {
      break;
    }
    for (elf::AtomGraph& graph : compile_context(request, chosen, target, warnings)) {
      add_defined(graph, names);
      context.push_back(std::move(graph));
    }
    for (Analysis* unit : open) {
      std::vector<elf::AtomGraph> others = context;
      for (const Analysis& other : units) {
        if (&other != unit && other.diff && other.part_of_target) {
          others.push_back(other.diff->original);
        }
      }
      match_together(*unit, others, target, known);
    }
  }
  for (Analysis& unit : units) {
    known.check(unit, new_names(unit, target));
  }
  return known.take();
}

}  // namespace qp::build
