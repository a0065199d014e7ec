// What is known about the target before anything is compared.
//
// A touched unit need not be part of the target at all: a project builds many programs from one
// compile database, and a library's source is compiled twice, for the archive and for the shared
// object. A unit that is not in the target has no function there, and demanding one would refuse
// every fix of shared code. But taking a unit for absent that is there would lose a part of the fix
// silently. So a unit is absent only if the symbol table says so in two ways: it has FILE symbols
// (ld keeps one for each object) but none of this name, or those of this name come with none of the
// unit's functions, and none of its global functions is defined in the target. The caller reports
// every absent unit.

#include "build/target.h"

#include <algorithm>
#include <cctype>
#include <set>

#include <fmt/format.h>

#include "base/error.h"
#include "elf/atom.h"

namespace qp::build {
namespace {

void check_kind(const elf::File& file, const std::string& name, Report& report) {
  std::string what;
  if (file.type() == elf::FileType::Relocatable || file.type() == elf::FileType::Core) {
    what = "it is neither an executable nor a shared library";
  }
  if (!what.empty()) {
    report.refuse("target-unsupported", name, what);
  }
}

// The first "12.2.0" of `text` behind `at`.
std::string version_in(std::string_view text, size_t at) {
  while (at < text.size()) {
    bool starts =
        std::isdigit(static_cast<unsigned char>(text[at])) != 0 && (at == 0 || text[at - 1] == ' ');
    size_t end = at;
    int dots = 0;
    while (starts && end < text.size() &&
           (std::isdigit(static_cast<unsigned char>(text[end])) != 0 || text[end] == '.')) {
      dots += text[end] == '.' ? 1 : 0;
      ++end;
    }
    if (dots > 0) {
      return std::string(text.substr(at, end - at));
    }
    at = std::max(end, at + 1);
  }
  return "";
}

}  // namespace

TargetFile open_target(const std::filesystem::path& path, const std::filesystem::path& debug_file,
                       Report& report, std::vector<std::string>& warnings) {
  TargetFile out;
  std::error_code error;
  std::filesystem::path real = std::filesystem::canonical(path, error);
  out.name = (error ? path : real).filename().string();
  // "/proc/PID/exe" of a program that was replaced on disk.
  if (size_t deleted = out.name.rfind(" (deleted)"); deleted != std::string::npos) {
    out.name.resize(deleted);
  }
  out.file = std::make_unique<const elf::File>(elf::File::open(path));
  out.reader = std::make_unique<const elf::FileReader>(*out.file);
  check_kind(*out.file, out.name, report);
  if (!out.file->build_id()) {
    report.refuse("no-build-id", out.name, "it has no .note.gnu.build-id");
  }
  out.names = match::find_names(*out.file, path, debug_file, warnings);
  out.symbols = match::SymbolMap::from_file(*out.file, out.names);
  return out;
}

std::string compiler_of(const std::string& producer) {
  if (size_t at = producer.find("clang version "); at != std::string::npos) {
    return "clang " + version_in(producer, at + 14);
  }
  for (std::string_view start : {"GNU C", "GCC: "}) {
    if (producer.starts_with(start)) {
      return "GCC " + version_in(producer, start.size());
    }
  }
  return "";
}

std::optional<std::string> compare_compilers(const elf::File& object, const elf::File& target) {
  auto compilers = [](const elf::File& file) {
    std::set<std::string> out;
    for (const std::string& producer : file.producers()) {
      if (std::string compiler = compiler_of(producer); !compiler.empty()) {
        out.insert(compiler);
      }
    }
    return out;
  };
  std::set<std::string> ours = compilers(object), theirs = compilers(target);
  for (const std::string& compiler : ours) {
    if (theirs.empty() || theirs.contains(compiler)) {
      return std::nullopt;
    }
  }
  if (ours.empty() || theirs.empty()) {
    return std::nullopt;
  }
  std::string list;
  for (const std::string& compiler : theirs) {
    list += (list.empty() ? "" : ", ") + compiler;
  }
  return fmt::format(
      "the target was built by {}, the objects were compiled by {}: its code will "
      "hardly be equal",
      list, *ours.begin());
}

bool has_global_of(const elf::AtomGraph& object, const match::SymbolMap& target,
                   const std::set<std::string>& explained) {
  return std::any_of(
      object.symbols.begin(), object.symbols.end(), [&](const elf::AtomSymbol& symbol) {
        // Weak ones are in as many units as use them.
        if (!symbol.atom || symbol.bind != elf::SymbolBind::Global || symbol.anonymous ||
            symbol.name == "main" || explained.contains(symbol.name)) {
          return false;
        }
        const auto entries = target.named(symbol.name);
        return std::any_of(entries.begin(), entries.end(), [](const match::MapEntry* entry) {
          return entry->bind != elf::SymbolBind::Local && entry->source != match::Source::Plt;
        });
      });
}

bool is_part_of(const elf::AtomGraph& object, const match::SymbolMap& target) {
  if (!target.has_files() || has_global_of(object, target, {})) {
    return true;
  }
  const std::vector<uint32_t> scopes = target.scopes_named(object.source);
  if (!scopes.empty() && !target.keeps_locals()) {
    return true;
  }
  bool has_function = false;
  for (const elf::AtomSymbol& symbol : object.symbols) {
    if (!symbol.atom || symbol.anonymous ||
        object.atoms[*symbol.atom].kind != elf::AtomKind::Function) {
      continue;
    }
    has_function = true;
    for (const match::MapEntry* entry : target.similar(symbol.name)) {
      // A global can have become local, in whatever scope the linker likes.
      const bool local = symbol.bind == elf::SymbolBind::Local;
      if (local ? std::binary_search(scopes.begin(), scopes.end(), entry->scope)
                : !scopes.empty()) {
        return true;
      }
    }
  }
  return !has_function && !scopes.empty();
}

}  // namespace qp::build
