// Which units have to be compiled?
//
// First by text (include_graph.h), then exactly: a candidate is preprocessed as it is and as
// patched, and if the compiler would read the same tokens, the unit is skipped. Comments, changes
// in branches of #if that are not taken and declarations in headers that a unit does not reach end
// here. White space between tokens and line numbers do not count, since the patched text keeps
// __LINE__ (line_directives.h) and the numbers that were expanded are tokens. What a compiler can
// read from the position of a token without __LINE__ is __builtin_LINE and std::source_location: a
// unit that uses these is compiled.
//
// Linemarkers tell which files a unit really read. That gives the reason for units that are
// skipped, and it lets us find out when a copied tree (the fallback without mounts) is left
// through an absolute path in a generated file: then the unpatched header would be used silently.
//
// GCC reads x.h.gch instead of x.h if it is beside it or earlier in the search path, and does not
// ask whether the header is newer (GCC manual, "Precompiled Headers"); only -E always reads the
// text. A changed header would be seen here and then be lost in the compilation. So every .gch that
// a unit could meet is covered with something empty, which GCC passes over, in both compilations.
// (Clang checks size and time of what a .pch was made from, and fails.)

#include "build/touched_units.h"

#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "base/error.h"
#include "base/fd.h"
#include "build/compile.h"
#include "build/include_graph.h"
#include "build/line_diff.h"
#include "build/own_headers.h"
#include "build/parallel.h"
#include "build/source_lines.h"

namespace qp::build {
namespace {

namespace fs = std::filesystem;

// What stands between the quotes of a linemarker: a quote and a backslash are escaped there (GCC
// Internals, "Preprocessor Output"; libcpp escapes unprintable characters in octal, too).
std::string unescape(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\' || i + 1 == text.size()) {
      out += text[i];
      continue;
    }
    size_t digits = 0;
    unsigned value = 0;
    while (digits < 3 && i + 1 + digits < text.size() && text[i + 1 + digits] >= '0' &&
           text[i + 1 + digits] <= '7') {
      value = value * 8 + static_cast<unsigned>(text[i + 1 + digits++] - '0');
    }
    out += digits != 0 ? static_cast<char>(value) : text[i + 1];
    i += std::max<size_t>(digits, 1);
  }
  return out;
}

// The files that the linemarkers of a preprocessed text name ("# 1 \"lib/x.h\" 2").
std::set<fs::path> files_read(std::string_view text, const fs::path& directory) {
  std::set<std::string_view> names;
  for (std::string_view line : split_lines(text)) {
    if (!line.starts_with("# ") && !line.starts_with("#line ")) {
      continue;
    }
    size_t open = line.find('"'), close = line.rfind('"');
    if (open != std::string_view::npos && close > open) {
      names.insert(line.substr(open + 1, close - open - 1));
    }
  }
  std::set<fs::path> out;
  for (std::string_view name : names) {
    fs::path path = (directory / unescape(name)).lexically_normal();
    std::error_code error;
    fs::path real = fs::canonical(path, error);
    out.insert(error ? path : real);
  }
  return out;
}

struct Candidate {
  Replay replay;
  std::string recorded_file;
  std::string reason;                // not empty: skipped
  std::set<fs::path> reads;          // touched files that it reads
  std::set<fs::path> patched_reads;  // files that it reads if something is added or deleted
  std::set<fs::path> precompiled;    // .gch files and directories that the compiler could take
};

// Beside what is read, and in the directories that are searched.
std::set<fs::path> precompiled_headers(const Replay& replay, const std::set<fs::path>& read) {
  std::set<fs::path> out;
  std::error_code error;
  for (fs::path path : read) {
    path += ".gch";
    if (fs::exists(path, error)) {
      out.insert(fs::canonical(path, error));
    }
  }
  std::vector<fs::path> directories = replay.include_directories;
  directories.push_back(replay.directory);
  directories.push_back(replay.source.parent_path());
  for (const fs::path& directory : directories) {
    for (const fs::directory_entry& entry : fs::directory_iterator(directory, error)) {
      if (entry.path().extension() == ".gch") {
        out.insert(fs::canonical(entry.path(), error));
      }
    }
  }
  return out;
}

std::vector<BindMount> hide(const std::set<fs::path>& precompiled, const PatchedTree& tree,
                            const View& view) {
  std::vector<BindMount> out;
  fs::path file = tree.scratch() / "empty", directory = tree.scratch() / "empty.d";
  for (const fs::path& path : precompiled) {
    if (!view.copy.empty()) {
      // The copy has none; one that lies elsewhere can't be covered.
      fs::path below = path.lexically_relative(view.root);
      if (below.empty() || *below.begin() == "..") {
        throw Error("mount-namespace", "can't hide the precompiled header", path.string(),
                    "mounts are not allowed here, and it holds the unpatched text; remove it");
      }
      continue;
    }
    if (out.empty()) {
      write_file(file, {});
      fs::create_directory(directory);
    }
    out.push_back({fs::is_directory(path) ? directory : file, path});
  }
  return out;
}

std::string names_of(const std::set<fs::path>& files, const PatchedTree& tree) {
  std::string out;
  for (const fs::path& path : files) {
    const PatchedFile* file = tree.find(path);
    out +=
        fmt::format("{}{}", out.empty() ? "" : ", ", file != nullptr ? file->name : path.string());
  }
  return out;
}

void examine(Candidate& unit, const PatchedTree& tree, const View& patched_view) {
  std::string original = preprocess(unit.replay, View{}, "original");
  std::set<fs::path> read = files_read(original, unit.replay.directory);
  unit.precompiled = precompiled_headers(unit.replay, read);
  for (const PatchedFile& file : tree.files()) {
    std::error_code error;
    fs::path real = fs::canonical(file.path, error);
    if (read.contains(error ? file.path : real)) {
      unit.reads.insert(file.path);
    }
  }
  bool names_change = std::any_of(tree.files().begin(), tree.files().end(),
                                  [](auto& f) { return f.kind != PatchedFile::Kind::Changed; });
  bool has_binary = original.find(".incbin") != std::string::npos ||
                    original.find(".include") != std::string::npos;
  if (unit.reads.empty() && !names_change && !has_binary) {
    unit.reason = "reads none of the changed files";
    return;
  }
  std::string patched = preprocess(unit.replay, patched_view, "patched");
  unit.patched_reads = files_read(patched, unit.replay.directory);
  if (!patched_view.copy.empty()) {
    for (const fs::path& path : unit.patched_reads) {
      if (tree.find(path) != nullptr) {
        throw Error("mount-namespace", "can't show the patched files to the compiler of",
                    unit.replay.source.string(),
                    fmt::format("mounts are not allowed here, and in a copy of the sources {} is "
                                "still read from its own place",
                                path.string()));
      }
    }
  }
  if (has_binary || patched.find("__builtin_LINE") != std::string::npos ||
      patched.find("__builtin_source_location") != std::string::npos) {
    return;
  }
  if (normalise_preprocessed(original) == normalise_preprocessed(patched)) {
    unit.reason = unit.reads.empty() ? "reads none of the changed files"
                                     : fmt::format("preprocessed text is equal (reads {})",
                                                   names_of(unit.reads, tree));
  }
}

}  // namespace

TouchedUnits find_touched_units(const std::vector<CompileCommand>& commands, PatchedTree& tree,
                                int jobs, std::vector<std::string>& warnings) {
  TouchedUnits out;
  if (tree.files().empty()) {
    return out;
  }
  IncludeGraph graph(tree.files());
  const fs::path own_headers = write_own_headers(tree.scratch());
  std::vector<Candidate> candidates;
  std::set<fs::path> compiled;  // touched files that have a command of their own
  for (const CompileCommand& command : commands) {
    std::error_code error;
    fs::path real = fs::canonical(command.file, error);
    const PatchedFile* own = tree.find(command.file);
    if (own == nullptr && !error) {
      own = tree.find(real);
    }
    if (own != nullptr) {
      compiled.insert(own->path);
    }
    if (own != nullptr && own->kind == PatchedFile::Kind::Deleted) {
      out.skipped.push_back({command.recorded_file, "the diff deletes it", false});
      continue;
    }
    if (own == nullptr && !command.problem.empty()) {
      // It can't be read; whether it is touched is not known either.
      warnings.push_back(fmt::format("{}: can't tell whether it is touched: {}",
                                     command.recorded_file, command.problem));
      continue;
    }
    Replay replay;
    try {
      replay = make_replay(command);
      replay.arguments.insert(replay.arguments.end(), {"-isystem", own_headers.string()});
    } catch (const Error& e) {
      if (own != nullptr) {
        throw;
      }
      warnings.push_back(
          fmt::format("{}: can't tell whether it is touched: {}", command.recorded_file, e.said()));
      continue;
    }
    if (own == nullptr && !graph.may_include(replay)) {
      continue;
    }
    candidates.push_back({std::move(replay), command.recorded_file, "", {}, {}});
  }

  if (!candidates.empty()) {
    const View& view = tree.patched_view();
    for_each_parallel(candidates.size(), jobs,
                      [&](size_t i) { examine(candidates[i], tree, view); });
  }
  std::set<fs::path> read, precompiled;
  for (Candidate& unit : candidates) {
    read.insert(unit.reads.begin(), unit.reads.end());
    read.insert(unit.patched_reads.begin(), unit.patched_reads.end());
    if (unit.reason.empty()) {
      precompiled.insert(unit.precompiled.begin(), unit.precompiled.end());
      out.units.push_back({std::move(unit.replay), unit.recorded_file});
    } else {
      out.skipped.push_back({unit.recorded_file, unit.reason, false});
    }
  }
  if (!precompiled.empty()) {
    out.hidden = hide(precompiled, tree, tree.patched_view());
  }
  for (const PatchedFile& file : tree.files()) {
    std::error_code error;
    const fs::path real = fs::canonical(file.path, error);
    if (file.kind == PatchedFile::Kind::Deleted || read.contains(file.path) ||
        (!error && read.contains(real)) || compiled.contains(file.path)) {
      continue;
    }
    if (is_source(file.path)) {
      out.not_compiled.push_back(file.name);
    } else if (file.kind == PatchedFile::Kind::Changed) {
      warnings.push_back(
          fmt::format("{}: no unit of the compile database reads it; its change has no effect here",
                      file.name));
    }
  }
  return out;
}

}  // namespace qp::build
