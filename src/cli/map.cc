// qpatch map: the symbol map of a target with file scopes.

#include <algorithm>
#include <iostream>
#include <memory>
#include <optional>
#include <vector>

#include <fmt/format.h>

#include "apply/apply.h"
#include "base/error.h"
#include "cli/commands.h"
#include "cli/executable.h"
#include "cli/messages.h"
#include "elf/file.h"
#include "format/file.h"
#include "match/symbol_map.h"
#include "proc/process.h"

namespace qp::cli {
namespace {

struct MapArguments {
  std::string target, debug_file;
  std::vector<std::string> patches;
  bool json = false;
};

const char* source_name(match::Source source) {
  switch (source) {
    case match::Source::SymTab:
      return "symtab";
    case match::Source::DebugFile:
      return "debug";
    case match::Source::MiniDebug:
      return "mini";
    case match::Source::DynSym:
      return "dynsym";
    case match::Source::Plt:
      return "plt";
    case match::Source::Proof:
      return "proof";
  }
  return "";
}

const char* type_name(elf::SymbolType type) {
  switch (type) {
    case elf::SymbolType::Func:
      return "func";
    case elf::SymbolType::Object:
      return "object";
    case elf::SymbolType::Tls:
      return "tls";
    case elf::SymbolType::GnuIfunc:
      return "ifunc";
    default:
      return "other";
  }
}

void add_proven(const std::string& name, const std::string& scope, LinkAddr address, uint64_t size,
                std::vector<match::MapEntry>& entries) {
  const bool known = std::any_of(entries.begin(), entries.end(), [&](const match::MapEntry& e) {
    return e.address == address && e.name == name && e.type != elf::SymbolType::Tls;
  });
  if (!known) {
    match::MapEntry entry;
    entry.name = name;
    entry.file = scope;
    entry.address = address;
    entry.size = size;
    entry.type = size != 0 ? elf::SymbolType::Func : elf::SymbolType::NoType;
    entry.source = match::Source::Proof;
    entries.push_back(std::move(entry));
  }
}

// What a proof found: of the patches named, and of those that the process has.
void add_proven(const MapArguments& args, const elf::File& file,
                std::vector<match::MapEntry>& entries) {
  for (const std::string& path : args.patches) {
    const format::PatchFile whole = format::open_patch(path);
    const auto part = std::find_if(
        whole.parts.begin(), whole.parts.end(),
        [&](const format::Patch& p) { return p.meta.target_build_id == file.build_id(); });
    if (part == whole.parts.end()) {
      throw Error("wrong-build", "can't use", path,
                  fmt::format("it is for build-id {}", whole.parts.front().meta.target_build_id),
                  ExitCode::NoMatch);
    }
    const format::Patch& patch = *part;
    for (const format::Replaced& r : patch.replaced) {
      add_proven(r.name, r.file, r.entry, r.ranges.front().size(), entries);
    }
    for (elf::AtomSymbolId id = 0; id < patch.old_bindings.size(); ++id) {
      const elf::Binding& binding = patch.old_bindings[id];
      const elf::AtomSymbol& symbol = patch.old.symbols[id];
      if (binding.kind == elf::BindingKind::Address && binding.evidence == elf::Evidence::Proof &&
          !symbol.anonymous) {
        add_proven(symbol.name, symbol.file, binding.address, 0, entries);
      }
    }
  }
  if (const auto pid = find_pid(args.target)) {
    const proc::Process process = proc::Process::open(*pid);
    for (const apply::Applied& applied : apply::list(process)) {
      if (applied.registry.target_build_id != file.build_id()) {
        continue;
      }
      for (const apply::RegistryDetour& d : applied.registry.detours) {
        add_proven(d.function, d.file, applied.registry.bias(d.entry), d.old_code.front().size(),
                   entries);
      }
    }
  }
  std::stable_sort(entries.begin(), entries.end(),
                   [](const auto& a, const auto& b) { return a.address < b.address; });
}

ExitCode run_map(const MapArguments& args) {
  const auto path = resolve_target(args.target);
  elf::File file = elf::File::open(path);
  std::vector<std::string> warnings;
  const match::NameSources names = match::find_names(file, path, args.debug_file, warnings);
  auto map = match::SymbolMap::from_file(file, names);
  print_warnings(warnings);
  std::vector<match::MapEntry> entries = map.entries();
  add_proven(args, file, entries);
  if (args.json) {
    auto symbols = nlohmann::json::array();
    for (const match::MapEntry& e : entries) {
      symbols.push_back({{"address", fmt::format("{:#x}", e.address.value)},
                         {"size", e.size},
                         {"type", type_name(e.type)},
                         {"name", e.name},
                         {"file", e.file},
                         {"scope", e.scope},
                         {"source", source_name(e.source)}});
    }
    auto imports = nlohmann::json::array();
    for (const match::ImportEntry& i : map.imports()) {
      imports.push_back({{"name", i.name},
                         {"version", i.version},
                         {"stub", fmt::format("{:#x}", i.stub.value)},
                         {"slot", fmt::format("{:#x}", i.slot.value)}});
    }
    print_json({{"build_id", file.build_id().value_or("")},
                {"symbols", std::move(symbols)},
                {"imports", std::move(imports)}});
    return ExitCode::Done;
  }
  for (const match::MapEntry& e : entries) {
    std::cout << fmt::format("{:016x} {:8} {:<6} {:<6} {}{}\n", e.address.value, e.size,
                             type_name(e.type), source_name(e.source), e.name,
                             e.file.empty() ? "" : fmt::format("  [{}]", e.file));
  }
  for (const match::ImportEntry& i : map.imports()) {
    if (i.stub.value != 0) {
      std::cout << fmt::format("{:016x} {:8} {:<6} {:<6} {}{}\n", i.stub.value, 0, "stub", "plt",
                               i.name, i.version.empty() ? "" : "@" + i.version);
    }
  }
  if (!map.has_symtab()) {
    std::cerr << "qpatch: the target has no .symtab and no debug file; names of other symbols are "
                 "shown\n";
  }
  return ExitCode::Done;
}

}  // namespace

Command add_map(CLI::App& app) {
  auto args = std::make_shared<MapArguments>();
  CLI::App* sub = app.add_subcommand("map", "The symbol map of a target, with file scopes");
  sub->add_option("target", args->target, "A file, or a PID")->required();
  sub->add_option("--debuginfo", args->debug_file, "Separate debug file of the target");
  sub->add_option("--patch", args->patches,
                  "A patch for the target: shows what was bound by proof; repeat for several");
  sub->add_flag("--json", args->json, "Machine-readable output");
  return {sub, [args] { return run_map(*args); }};
}

}  // namespace qp::cli
