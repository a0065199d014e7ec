// A header change has to be followed to every unit that includes it, and running the preprocessor
// on a project of 1,500 units takes minutes. So the #include lines are read as text first, each
// file once, and only units from which a touched file can be reached are preprocessed.
//
// The text does not say which branch of an #if is taken, and names are searched in many
// directories (#include_next goes on searching): every line counts, and every directory that has
// the name. That errs on the safe side. A computed include (`#include HEADER`) can't be followed,
// so whoever reaches one is a candidate (and so is a command with options that are not followed); so is
// whoever asks __has_include for a file that the diff
// adds or deletes. Names that are found nowhere, or in the compiler's own directories, lead
// nowhere, unless a touched file has that name (it may be found by ways we don't know: -isysroot,
// -iprefix, CPATH).
//
// Files of the project include each other in circles, so reachability is computed backwards from
// what was found, over the edges of one search path; units with the same path share the work.

#include "build/include_graph.h"

#include <algorithm>

#include "base/error.h"
#include "base/fd.h"
#include "build/line_diff.h"
#include "build/source_lines.h"

namespace qp::build {
namespace {

namespace fs = std::filesystem;

// "<a/b.h>" and "\"a/b.h\"" → "a/b.h"; "" for something else.
std::string literal_include(const std::string& argument) {
  if (argument.size() < 2) {
    return "";
  }
  char close = argument[0] == '<' ? '>' : argument[0] == '"' ? '"' : '\0';
  size_t end = close == '\0' ? std::string::npos : argument.find(close, 1);
  return end == std::string::npos ? "" : argument.substr(1, end - 1);
}

// An #include that a backslash at the end of a line takes apart: "#inc\\" and "lude <x.h>".
bool has_split_include(std::string_view content) {
  for (size_t at = content.find("\\\n"); at != std::string_view::npos;
       at = content.find("\\\n", at + 1)) {
    const size_t start = content.rfind('\n', at) + 1;  // 0 if there is none
    std::string_view line = content.substr(start, at - start);
    line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
    if (!line.starts_with('#')) {
      continue;
    }
    line.remove_prefix(std::min(line.find_first_not_of(" \t", 1), line.size()));
    const size_t end = std::min(line.find_last_not_of(" \t") + 1, line.size());
    if (std::string_view("include_next").starts_with(line.substr(0, end)) ||
        std::string_view("import").starts_with(line.substr(0, end))) {
      return true;
    }
  }
  return false;
}

}  // namespace

IncludeGraph::IncludeGraph(const std::vector<PatchedFile>& touched) {
  for (const PatchedFile& file : touched) {
    std::error_code error;
    touched_.insert(file.path);
    if (const fs::path real = fs::canonical(file.path, error); !error) {
      touched_.insert(real);  // the diff may name it through a link
    }
    touched_names_.insert(file.path.filename().string());
    if (file.kind != PatchedFile::Kind::Changed) {
      coming_or_going_.insert(file.path.filename().string());
    }
  }
}

const IncludeGraph::Text& IncludeGraph::text_of(const fs::path& file) {
  auto [it, is_new] = texts_.try_emplace(file);
  Text& out = it->second;
  if (!is_new) {
    return out;
  }
  std::string content;
  try {
    content = read_text(file);
  } catch (const Error&) {
    return out;  // it was there a moment ago; the compiler will say what is wrong
  }
  for (const SourceLine& line : scan_source(split_lines(content))) {
    if (line.directive != Directive::Include) {
      continue;
    }
    std::string name = literal_include(line.argument);
    if (name.empty()) {
      out.computed = true;
    } else {
      out.includes.push_back(name);
    }
  }
  out.computed |= has_split_include(content);
  // Of an assembler text, also in asm(): a file by name that no preprocessor sees.
  for (const std::string_view directive : {".incbin", ".include"}) {
    for (size_t at = content.find(directive); at != std::string::npos;
         at = content.find(directive, at + 1)) {
      size_t open = content.find('"', at);
      size_t end = open == std::string::npos ? open : content.find_first_of("\"\\\n", open + 1);
      if (end != std::string::npos) {
        out.includes.push_back(content.substr(open + 1, end - open - 1));
      }
    }
  }
  if (content.find("__has_include") != std::string::npos ||
      content.find("__has_embed") != std::string::npos) {
    for (const std::string& name : coming_or_going_) {
      out.computed |= content.find(name) != std::string::npos;
    }
  }
  return out;
}

bool IncludeGraph::exists(const fs::path& file) {
  auto [it, is_new] = exists_.try_emplace(file, false);
  if (is_new) {
    std::error_code error;
    it->second = touched_.contains(file) || fs::is_regular_file(file, error);
  }
  return it->second;
}

std::vector<fs::path> IncludeGraph::resolve(const std::string& name, const fs::path& from,
                                            const Directories& directories) {
  std::vector<fs::path> out;
  auto look = [&](const fs::path& directory) {
    fs::path path = (directory / name).lexically_normal();
    if (exists(path)) {
      out.push_back(path);
    }
  };
  look(from);
  for (const fs::path& directory : directories) {
    look(directory);
  }
  return out;
}

bool IncludeGraph::reaches(const std::vector<fs::path>& from, const Directories& directories) {
  std::map<fs::path, bool>& settled = searches_[directories].reaches;
  // Everything that `from` reaches and that was not settled before, with the edges backwards.
  std::map<fs::path, std::vector<fs::path>> included_by;
  std::set<fs::path> seen, hits;
  std::vector<fs::path> work(from);
  while (!work.empty()) {
    fs::path file = std::move(work.back());
    work.pop_back();
    if (settled.contains(file) || !seen.insert(file).second) {
      continue;
    }
    const Text& text = text_of(file);
    std::error_code error;
    // Links in the tree give a touched file other names.
    if (text.computed || touched_.contains(file) ||
        (touched_names_.contains(file.filename().string()) &&
         touched_.contains(fs::canonical(file, error)))) {
      hits.insert(file);
    }
    for (const std::string& name : text.includes) {
      std::vector<fs::path> found = resolve(name, file.parent_path(), directories);
      if (found.empty() && touched_names_.contains(fs::path(name).filename().string())) {
        hits.insert(file);
      }
      for (fs::path& next : found) {
        if (auto it = settled.find(next); it != settled.end()) {
          if (it->second) {
            hits.insert(file);
          }
          continue;
        }
        included_by[next].push_back(file);
        work.push_back(std::move(next));
      }
    }
  }
  for (const fs::path& file : seen) {
    settled[file] = false;
  }
  work.assign(hits.begin(), hits.end());
  for (const fs::path& file : hits) {
    settled[file] = true;
  }
  while (!work.empty()) {
    fs::path file = std::move(work.back());
    work.pop_back();
    for (const fs::path& includer : included_by[file]) {
      if (!settled[includer]) {
        settled[includer] = true;
        work.push_back(includer);
      }
    }
  }
  return std::any_of(from.begin(), from.end(), [&](const fs::path& file) { return settled[file]; });
}

bool IncludeGraph::may_include(const Replay& replay) {
  if (replay.opaque_inputs) {
    return true;
  }
  std::vector<fs::path> from = {replay.source};
  for (const std::string& name : replay.forced_includes) {
    // -include is searched in the working directory first (GCC manual, "Preprocessor Options").
    std::vector<fs::path> found = resolve(name, replay.directory, replay.include_directories);
    if (found.empty() && touched_names_.contains(fs::path(name).filename().string())) {
      return true;
    }
    from.insert(from.end(), found.begin(), found.end());
  }
  return reaches(from, replay.include_directories);
}

}  // namespace qp::build
