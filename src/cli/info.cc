// qpatch info: what a patch file holds.

#include <iostream>
#include <memory>

#include <fmt/format.h>

#include "cli/atom_name.h"
#include "cli/commands.h"
#include "cli/disassembly.h"
#include "cli/messages.h"
#include "format/file.h"

namespace qp::cli {
namespace {

struct InfoArguments {
  std::string file;
  bool assembly = false, json = false;
};

const char* evidence_name(elf::Evidence e) {
  switch (e) {
    case elf::Evidence::None:
      return "none";
    case elf::Evidence::SymbolTable:
      return "symbol table";
    case elf::Evidence::Proof:
      return "proof";
  }
  return "";
}

std::string where(const elf::Binding& b) {
  switch (b.kind) {
    case elf::BindingKind::Unbound:
      return "unbound";
    case elf::BindingKind::Address:
      return fmt::format("{:#x}", b.address.value);
    case elf::BindingKind::TpOffset:
      return fmt::format("thread pointer {:+#x}", b.tp_offset);
    case elf::BindingKind::ModuleOffset:
      return fmt::format("TLS block {:+#x}", b.tp_offset);
    case elf::BindingKind::TlsSlot:
      return fmt::format("TLS, slot {:#x}", b.got_slot.value);
    case elf::BindingKind::Import:
      return b.stub.value != 0 ? fmt::format("import, stub {:#x}", b.stub.value) : "import";
  }
  return "";
}

const char* kind_name(elf::AtomKind kind) {
  switch (kind) {
    case elf::AtomKind::Function:
      return "function";
    case elf::AtomKind::Variable:
      return "variable";
    case elf::AtomKind::String:
      return "string";
    case elf::AtomKind::Constant:
      return "constant";
    case elf::AtomKind::JumpTable:
      return "jump table";
    case elf::AtomKind::Anonymous:
      return "anonymous data";
  }
  return "";
}

// What the patch adds besides the replacements.
bool is_added(const format::Patch& patch, elf::AtomId id) {
  for (const format::Replaced& r : patch.replaced) {
    if (r.new_function == id) {
      return false;
    }
  }
  return true;
}

nlohmann::json part_json(const format::Patch& patch) {
  auto functions = nlohmann::json::array();
  for (const format::Replaced& r : patch.replaced) {
    functions.push_back({{"name", r.name},
                         {"file", r.file},
                         {"kind", "replaced"},
                         {"entry", fmt::format("{:#x}", r.entry.value)},
                         {"old_size", r.ranges.front().size()},
                         {"new_size", patch.fresh.atoms[r.new_function].size},
                         {"why", r.why}});
  }
  auto data = nlohmann::json::array();
  for (elf::AtomId id = 0; id < patch.fresh.atoms.size(); ++id) {
    const elf::Atom& atom = patch.fresh.atoms[id];
    const elf::AtomSymbol& symbol = patch.fresh.symbol_of(id);
    if (!is_added(patch, id)) {
      continue;
    }
    if (atom.kind == elf::AtomKind::Function) {
      functions.push_back({{"name", symbol.name},
                           {"file", symbol.file},
                           {"kind", atom.parent ? "piece" : "new"},
                           {"new_size", atom.size}});
    } else {
      data.push_back({{"name", symbol.name}, {"kind", kind_name(atom.kind)}, {"size", atom.size}});
    }
  }
  auto bindings = nlohmann::json::array();
  for (size_t i = 0; i < patch.fresh.symbols.size(); ++i) {
    const elf::Binding& b = patch.fresh_bindings[i];
    if (b.kind != elf::BindingKind::Unbound) {
      bindings.push_back({{"name", patch.fresh.symbols[i].name},
                          {"file", patch.fresh.symbols[i].file},
                          {"where", where(b)},
                          {"evidence", evidence_name(b.evidence)}});
    }
  }
  auto hooks = nlohmann::json::array();
  for (const format::Hook& h : patch.hooks) {
    hooks.push_back({{"name", h.name},
                     {"file", h.file},
                     {"when", name_of(h.when)},
                     {"others", name_of(h.others)}});
  }
  const format::Meta& m = patch.meta;
  return {{"target",
           {{"name", m.target_name}, {"build_id", m.target_build_id}, {"soname", m.target_soname}}},
          {"description", m.description},
          {"cves", m.cves},
          {"toolchain", m.toolchain},
          {"sources", m.sources},
          {"waivers", m.waivers},
          {"supersedes", m.supersedes},
          {"functions", std::move(functions)},
          {"hooks", std::move(hooks)},
          {"data", std::move(data)},
          {"bindings", std::move(bindings)}};
}

// A patch for one target has everything in one object; one for several has a list.
nlohmann::json patch_json(const format::PatchFile& file) {
  nlohmann::json out;
  if (file.parts.size() == 1) {
    out = part_json(file.parts.front());
  } else {
    auto parts = nlohmann::json::array();
    for (const format::Patch& part : file.parts) {
      parts.push_back(part_json(part));
    }
    out = {{"description", file.parts.front().meta.description},
           {"cves", file.parts.front().meta.cves},
           {"parts", std::move(parts)}};
  }
  out["id"] = file.id();
  return out;
}

void print_functions(const format::Patch& patch) {
  std::cout << "\nfunctions replaced\n";
  for (const format::Replaced& r : patch.replaced) {
    std::cout << fmt::format("  {}{}  {} -> {} bytes, entry {:#x}\n", r.name,
                             r.file.empty() ? "" : fmt::format(" ({})", r.file),
                             r.ranges.front().size(), patch.fresh.atoms[r.new_function].size,
                             r.entry.value);
    if (!r.why.empty()) {
      std::cout << fmt::format("    {}\n", r.why);
    }
  }
}

void print_hooks(const format::Patch& patch) {
  if (!patch.hooks.empty()) {
    std::cout << "\nhooks\n";
  }
  for (const format::Hook& h : patch.hooks) {
    std::cout << fmt::format("  {:<12} {}{}  other threads {}\n", name_of(h.when), h.name,
                             h.file.empty() ? "" : fmt::format(" ({})", h.file), name_of(h.others));
  }
}

void print_added(const format::Patch& patch) {
  bool first = true;
  for (elf::AtomId id = 0; id < patch.fresh.atoms.size(); ++id) {
    const elf::Atom& atom = patch.fresh.atoms[id];
    if (is_added(patch, id)) {
      std::cout << (first ? "\nadded\n" : "");
      first = false;
      std::cout << fmt::format("  {:<14} {}  {} bytes\n",
                               atom.parent ? "piece" : kind_name(atom.kind),
                               display_name(patch.fresh, id), atom.size);
    }
  }
}

void print_bindings(const format::Patch& patch) {
  std::cout << "\nrefers to the running program\n";
  for (size_t i = 0; i < patch.fresh.symbols.size(); ++i) {
    const elf::Binding& b = patch.fresh_bindings[i];
    if (b.kind != elf::BindingKind::Unbound) {
      const elf::AtomSymbol& s = patch.fresh.symbols[i];
      std::cout << fmt::format("  {}{}  {}  by {}\n", s.name,
                               s.file.empty() ? "" : fmt::format(" ({})", s.file), where(b),
                               evidence_name(b.evidence));
    }
  }
}

void print_line(const char* name, const std::string& value) {
  if (!value.empty()) {
    std::cout << fmt::format("{:<12} {}\n", name, value);
  }
}

void print_patch(const format::PatchFile& file) {
  const format::Meta& m = file.parts.front().meta;
  print_line("patch", file.id());
  print_line("description", m.description);
  print_line("closes", fmt::format("{}", fmt::join(m.cves, " ")));
}

void print_part(const format::Patch& patch) {
  const format::Meta& m = patch.meta;
  print_line("target", fmt::format("{}, build-id {}", m.target_name, m.target_build_id));
  print_line("compiled by", m.toolchain);
  print_line("sources", fmt::format("{}", fmt::join(m.sources, " ")));
  print_line("supersedes", fmt::format("{}", fmt::join(m.supersedes, " ")));
  print_line("waivers", fmt::format("{}", fmt::join(m.waivers, " ")));
  print_functions(patch);
  print_hooks(patch);
  print_added(patch);
  print_bindings(patch);
}

}  // namespace

Command add_info(CLI::App& app) {
  auto args = std::make_shared<InfoArguments>();
  CLI::App* sub = app.add_subcommand("info", "What a patch file holds");
  sub->add_option("patch", args->file, "Patch file (NAME.qp)")->required();
  sub->add_flag("--asm", args->assembly, "Old and new code of each replaced function");
  sub->add_flag("--json", args->json, "Machine-readable output");
  return {sub, [args] {
            const format::PatchFile patch = format::open_patch(args->file);
            if (args->json) {
              print_json(patch_json(patch));
              return ExitCode::Done;
            }
            print_patch(patch);
            for (const format::Patch& part : patch.parts) {
              std::cout << (patch.parts.size() > 1 ? "\n" : "");
              print_part(part);
              if (args->assembly) {
                print_disassembly(part);
              }
            }
            return ExitCode::Done;
          }};
}

}  // namespace qp::cli
