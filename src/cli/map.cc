// qpatch map: the symbol map of a target with file scopes.

#include <iostream>
#include <memory>
#include <optional>

#include <fmt/format.h>

#include "cli/commands.h"
#include "cli/executable.h"
#include "cli/messages.h"
#include "elf/file.h"
#include "match/symbol_map.h"

namespace qp::cli {
namespace {

struct Arguments {
  std::string target, debug_file;
  bool json = false;
};

const char* source_name(match::Source source) {
  switch (source) {
    case match::Source::SymTab:
      return "symtab";
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

ExitCode run_map(const Arguments& args) {
  elf::File file = elf::File::open(resolve_target(args.target));
  std::optional<elf::File> debug;
  if (!args.debug_file.empty()) {
    debug = elf::File::open(args.debug_file);
  }
  auto map = match::SymbolMap::from_file(file, debug ? &*debug : nullptr);
  if (args.json) {
    auto symbols = nlohmann::json::array();
    for (const match::MapEntry& e : map.entries()) {
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
  for (const match::MapEntry& e : map.entries()) {
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
    std::cerr << "qpatch: the target has no .symtab; only its dynamic symbols are shown\n";
  }
  return ExitCode::Done;
}

}  // namespace

Command add_map(CLI::App& app) {
  auto args = std::make_shared<Arguments>();
  CLI::App* sub = app.add_subcommand("map", "The symbol map of a target, with file scopes");
  sub->add_option("target", args->target, "A file, or a PID")->required();
  sub->add_option("--debuginfo", args->debug_file, "Separate debug file of the target");
  sub->add_flag("--json", args->json, "Machine-readable output");
  return {sub, [args] { return run_map(*args); }};
}

}  // namespace qp::cli
